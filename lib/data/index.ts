export {
  type Augmentation,
  type Batch,
  type BatchData,
  batchData,
  batchOf,
  epochOrder,
  measureNormalisation,
  type Normalisation,
  type Preparation,
  range,
  toDevice,
} from "./batch.js";
export { type DataSource, type ImageDataset, loadDataset } from "./dataset.js";
