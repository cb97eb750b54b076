/** quadmamba: tensors, autograd, kernels, QuadMamba and its trainer. */
export { grad } from "./autograd/backward.js";
export { checkpoint } from "./autograd/checkpoint.js";
export { type GradcheckOptions, gradcheck } from "./autograd/gradcheck.js";
export { enableGrad, noGrad } from "./autograd/mode.js";
export {
  loadTorch,
  PickleGlobal,
  PickleObject,
  type TorchCheckpoint,
  TorchTensor,
} from "./io/pth/index.js";
export { loadSafetensors, saveSafetensors } from "./io/safetensors.js";
export {
  type PartitionMode,
  type QuadMambaConfig,
  type Semantics,
  VARIANTS,
  type Variant,
} from "./models/quadmamba/config.js";
export { inferConfig } from "./models/quadmamba/infer.js";
export {
  createQuadMamba,
  type ForwardOptions,
  QuadMamba,
} from "./models/quadmamba/model.js";
export type { PartitionSeen } from "./models/quadmamba/quad_scan.js";
export type { CudaInfo, OpCost } from "./native/addon.js";
export { cudaAvailable, cudaInfo } from "./native/cuda.js";
export * as nn from "./nn/index.js";
export {
  defineOp,
  launch,
  type OpDefinition,
  type Saved,
} from "./ops/define.js";
export * from "./ops/index.js";

import "./ops/methods.js";

export { profileMacs } from "./ops/profile.js";
export { exportOnnx, type OnnxOptions } from "./onnx/model.js";
export * from "./optim/index.js";
export { profileOnDevice, timeOnDevice } from "./tensor/clock.js";
export type { DType, TensorData } from "./tensor/dtype.js";
export { capture, Graph } from "./tensor/graph.js";
export {
  allowTf32,
  getThreads,
  type MemoryStats,
  memory,
  setThreads,
  synchronize,
} from "./tensor/memory.js";
export {
  type Draw,
  defaultGenerator,
  Generator,
  manualSeed,
} from "./tensor/random.js";
export { scope } from "./tensor/scope.js";
export {
  type Device,
  type NestedArray,
  Tensor,
  type TensorSpec,
} from "./tensor/tensor.js";
export * from "./util/errors.js";
