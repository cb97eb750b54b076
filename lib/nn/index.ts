export * as init from "./init.js";
export {
  Conv2d,
  type Conv2dLayerOptions,
  DepthwiseSilu,
  Dropout,
  GELU,
  GeluLinear,
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
