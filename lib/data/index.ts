export {
  type Augmentation,
  type Batch,
  batchOf,
  epochOrder,
  measureNormalisation,
  type Normalisation,
  type Preparation,
  range,
} from "./batch.js";
export { type DataSource, type ImageDataset, loadDataset } from "./dataset.js";
