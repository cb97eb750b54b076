export * as init from "./init.js";
export {
  Conv2d,
  type Conv2dLayerOptions,
  Dropout,
  GELU,
  LayerNorm,
  Linear,
  type LinearOptions,
  Sequential,
} from "./layers.js";
export {
  copyInto,
  type LoadResult,
  Module,
  parameter,
  type StateDict,
} from "./module.js";
