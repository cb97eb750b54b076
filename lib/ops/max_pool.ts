import { requireShape } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { defineOp, launch, requireFloat } from "./define.js";
import { type PoolOptions, poolGeometry } from "./resample.js";

const maxPoolOp = defineOp<ReturnType<typeof poolGeometry>>({
  name: "maxPool",
  infer: ([x], { out }) => ({
    shape: requireShape("maxPool", [x.shape[0], ...out, x.shape[3]]),
    dtype: requireFloat("maxPool", x),
  }),
  forward: ([x], { kernel, stride, padding }, out) =>
    launch(
      "max_pool2d_fwd",
      [x],
      [out, { ...out, dtype: "int32" }],
      [2, ...kernel, 2, ...stride, 2, ...padding],
    ),
  backward: (dy, { extras: [index], specs: [x] }) => launch("max_pool2d_bwd", [dy, index], [x]),
});
/** Largest value of each window; of equals the first pixel gets the gradient, NaN wins. x [batch, height, width, channels]. */
export function maxPool(x: Tensor, options: PoolOptions): Tensor {
  return maxPoolOp([x], poolGeometry("maxPool", x, options));
}
