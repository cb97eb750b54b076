import { requireAxis } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { defineOp, launch, requireFloat } from "./define.js";
import { transpose } from "./shape_ops.js";

/** An op over the last axis, as a function over any. */
function overAxis(name: string, kernel: string): (x: Tensor, axis?: number) => Tensor {
  const op = defineOp({
    name,
    infer: ([x]) => ({ shape: x.shape, dtype: requireFloat(name, x) }),
    forward: ([x], _, out) => launch(`${kernel}_fwd`, [x], [out]),
    saves: { output: true },
    backward: (dy, { output }) => launch(`${kernel}_bwd`, [output, dy], [dy]),
  });
  return (x, axis = -1) => {
    requireTensor(name, "input", x);
    const along = requireAxis(name, axis, x.rank);
    return along === x.rank - 1 ? op([x]) : transpose(op([transpose(x, along, -1)]), along, -1);
  };
}

/** e^x_i / sum e^x_j along an axis (the last by default). */
export const softmax = overAxis("softmax", "softmax");
/** log softmax, without the detour over small probabilities. */
export const logSoftmax = overAxis("logSoftmax", "log_softmax");
