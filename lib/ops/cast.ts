import { type DType, isDifferentiable, requireDType } from "../tensor/dtype.js";
import { type Device, requireDevice, requireTensor, type Tensor, transfer } from "../tensor/tensor.js";
import { defineOp, launch } from "./define.js";

const castOp = defineOp<{ dtype: DType }>({
  name: "cast",
  infer: ([x], { dtype }) => ({ shape: x.shape, dtype }),
  forward: ([x], _, out) => launch("cast_fwd", [x], [out]),
  backward: (dy, { specs: [x] }) => [cast(dy, x.dtype)],
});

/**
 * x in another dtype. Floats lose their fraction on the way to integers and stop at the integer's range (NaN becomes 0);
 * everything but 0 is true; bfloat16 rounds to nearest even. A gradient passes between float32, float64 and bfloat16 only. x itself
 * where it has the dtype already.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  const target = requireDType("cast", dtype);
  requireTensor("cast", "input", x);
  if (target === x.dtype) return x;
  const differentiable = isDifferentiable(x.dtype) && isDifferentiable(target);
  return castOp([differentiable ? x : x.requiresGrad ? x.detach() : x], {
    dtype: target,
  });
}

const transferOp = defineOp<{ device: Device }>({
  name: "to",
  infer: ([x]) => x,
  forward: ([x], { device }) => transfer("to", x, device),
  backward: (dy, { specs: [x] }) => [to(dy, x.device)],
});

/** x on another device, or in another dtype; x itself where it is there already. A gradient finds its way back. */
export function to(x: Tensor, target: Device | DType): Tensor {
  requireTensor("to", "input", x);
  if (target !== "cpu" && target !== "cuda") return cast(x, requireDType("to", target));
  const device = requireDevice("to", target);
  return device === x.device ? x : transferOp([x], { device });
}
