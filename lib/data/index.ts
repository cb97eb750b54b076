export { type Batch, batchOf, epochOrder, range } from "./batch.js";
export { type Checked, checkData } from "./check.js";
export { DATASET_NAMES, datasetName, loadDataset } from "./dataset.js";
export { decodeFile } from "./decode.js";
export type { Image } from "./image.js";
export { prepareFile } from "./prepare_file.js";
export { packData } from "./packed.js";
export type { DataSource, FileSet, ImageSet, MemorySet, PackedSet } from "./image_set.js";
export { type BatchData, Loader, type LoaderOptions, type TrainingBatch } from "./loader.js";
export {
  fitImage,
  IMAGENET,
  imageSize,
  measureNormalisation,
  type Normalisation,
  type Preparation,
  preparationFor,
  preparationSchema,
} from "./preparation.js";
export type { QuadrantsDataset, QuadrantsSource } from "./quadrants.js";
