/** All public ops. What is exported here is in the op table of the tests, or they fail. */
import "./autograd_support.js";

export {
  add,
  div,
  eq,
  ge,
  gt,
  le,
  lt,
  maximum,
  minimum,
  mul,
  ne,
  type Operand,
  pow,
  sub,
  where,
} from "./arithmetic.js";
export { cast, to } from "./cast.js";
export { type Conv2dOptions, conv2d } from "./conv2d.js";
export {
  arange,
  full,
  oneHot,
  ones,
  type RandomOptions,
  rand,
  randGumbel,
  randn,
  type TensorOptions,
  tensor,
  zeros,
} from "./create.js";
export { type CrossEntropyOptions, crossEntropy } from "./cross_entropy.js";
export { depthwiseSilu } from "./depthwise_silu.js";
export { type DropoutOptions, dropout, dropPath } from "./dropout.js";
export {
  abs,
  clamp,
  erf,
  exp,
  gelu,
  log,
  neg,
  relu,
  rsqrt,
  sigmoid,
  silu,
  softplus,
  sqrt,
  tanh,
} from "./elementwise.js";
export { type GumbelSoftmaxOptions, gumbelSoftmax } from "./gumbel_softmax.js";
export { gather, indexSelect, scatterAdd } from "./indexing.js";
export { layerNorm } from "./layer_norm.js";
export { geluLinear, groupedLinear, linear, type MatmulOptions, matmul } from "./matmul.js";
export { maxPool } from "./max_pool.js";
export { type ProjectedScanOptions, projectedScan } from "./projected_scan.js";
export { type QuadPlaces, quadArrange, quadRestore } from "./quad_choice.js";
export { quadrantContext } from "./quadrant_context.js";
export {
  type Axis,
  argmax,
  logsumexp,
  max,
  mean,
  min,
  sum,
  variance,
  variance as var,
} from "./reduce.js";
export {
  adaptiveAvgPool2d,
  avgPool,
  type InterpolateOptions,
  interpolate,
  type PoolOptions,
} from "./resample.js";
export { type SelectiveScanOptions, selectiveScan } from "./selective_scan.js";
export {
  concat,
  expand,
  flip,
  pad,
  permute,
  reshape,
  roll,
  slice,
  split,
  sumTo,
  transpose,
} from "./shape_ops.js";
export { logSoftmax, softmax } from "./softmax.js";
export { straightThrough } from "./straight_through.js";
