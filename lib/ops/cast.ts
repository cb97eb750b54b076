import { type DType, isFloat, requireDType } from "../tensor/dtype.js";
import { requireDevice, requireTensor, type Tensor } from "../tensor/tensor.js";
import { defineOp, launch } from "./define.js";

const castOp = defineOp<{ dtype: DType }>({
  name: "cast",
  infer: ([x], { dtype }) => ({ shape: x.shape, dtype }),
  forward: ([x], _, out) => launch("cast_fwd", [x], [out]),
  backward: (dy, { specs: [x] }) => [cast(dy, x.dtype)],
});

/**
 * x in another dtype. Floats lose their fraction on the way to integers and stop at the integer's range (NaN becomes 0);
 * everything but 0 is true; bfloat16 rounds to nearest even. A gradient passes between float32 and float64 only. x itself
 * where it has the dtype already.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  const target = requireDType("cast", dtype);
  requireTensor("cast", "input", x);
  if (target === x.dtype) return x;
  const differentiable = isFloat(x.dtype) && isFloat(target);
  return castOp([differentiable ? x : x.requiresGrad ? x.detach() : x], {
    dtype: target,
  });
}

/** x on another device, or in another dtype; x itself where it is there already. */
export function to(x: Tensor, target: string): Tensor {
  requireTensor("to", "input", x);
  if (target === "cpu" || target === "cuda") {
    requireDevice("to", target);
    return x;
  }
  return cast(x, requireDType("to", target));
}
