/** Every op whose first argument is a tensor, as a method: `x.mul(y)` is `mul(x, y)`. */
import { Tensor } from "../tensor/tensor.js";
import * as ops from "./index.js";

const METHODS = [
  "add",
  "sub",
  "mul",
  "div",
  "pow",
  "maximum",
  "minimum",
  "eq",
  "ne",
  "lt",
  "le",
  "gt",
  "ge",
  "where",
  "exp",
  "log",
  "sqrt",
  "rsqrt",
  "abs",
  "neg",
  "clamp",
  "erf",
  "tanh",
  "sigmoid",
  "silu",
  "gelu",
  "relu",
  "softplus",
  "cast",
  "to",
  "sum",
  "mean",
  "max",
  "min",
  "argmax",
  "var",
  "logsumexp",
  "softmax",
  "logSoftmax",
  "crossEntropy",
  "matmul",
  "linear",
  "geluLinear",
  "groupedLinear",
  "conv2d",
  "depthwiseSilu",
  "layerNorm",
  "avgPool",
  "adaptiveAvgPool2d",
  "maxPool",
  "interpolate",
  "reshape",
  "permute",
  "transpose",
  "expand",
  "sumTo",
  "split",
  "slice",
  "pad",
  "roll",
  "flip",
  "gather",
  "indexSelect",
  "scatterAdd",
  "oneHot",
  "dropout",
  "dropPath",
  "gumbelSoftmax",
  "quadrantContext",
  "selectiveScan",
  "projectedScan",
] as const; // prettier-ignore

type MethodName = (typeof METHODS)[number];
type AsMethod<F> = F extends (first: never, ...rest: infer R) => infer T ? (...rest: R) => T : never;
type Methods = { [K in MethodName]: AsMethod<(typeof ops)[K]> };

declare module "../tensor/tensor.js" {
  interface Tensor extends Methods {}
}

for (const name of METHODS) {
  const op = ops[name] as (first: Tensor, ...rest: unknown[]) => unknown;
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: unknown[]) {
      return op(this, ...rest);
    },
    configurable: true,
    writable: true,
  });
}
