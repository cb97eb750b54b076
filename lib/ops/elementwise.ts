/** Functions of one tensor, element by element. Each line is one op: its formula lives in native/formulas/elementwise.h. */
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { ArgumentError, DTypeError, show } from "../util/errors.js";
import { computes, defineOp, launch, requireFloat } from "./define.js";

/** @param saves which of x and y the derivative is written in */
function elementwise(name: string, kernel: string, saves: "x" | "y"): (x: Tensor) => Tensor {
  const [forward, backward] = [`${kernel}_fwd`, `${kernel}_bwd`];
  const op = defineOp({
    name,
    infer: ([x]) => ({ shape: x.shape, dtype: requireFloat(name, x) }),
    forward: ([x], _, out) => launch(forward, [x], [out]),
    saves: saves === "x" ? { inputs: [0] } : { output: true },
    backward: (dy, { inputs, output }) => launch(backward, [saves === "x" ? inputs[0] : output, dy], [dy]),
  });
  return (x) => op([requireTensor(name, "input", x)]);
}

/** e^x */
export const exp = elementwise("exp", "exp", "y");
/** Natural logarithm; -inf at 0, NaN below. */
export const log = elementwise("log", "log", "x");
export const sqrt = elementwise("sqrt", "sqrt", "y");
/** 1 / sqrt(x) */
export const rsqrt = elementwise("rsqrt", "rsqrt", "y");
/** Error function 2/sqrt(pi) int_0^x e^(-t^2) dt. */
export const erf = elementwise("erf", "erf", "x");
export const tanh = elementwise("tanh", "tanh", "y");
/** 1 / (1 + e^-x) */
export const sigmoid = elementwise("sigmoid", "sigmoid", "y");
/** x sigmoid(x) */
export const silu = elementwise("silu", "silu", "x");
/** x Phi(x), exact (by erf, not tanh). */
export const gelu = elementwise("gelu", "gelu", "x");
/** max(x, 0); its gradient at 0 is 0. */
export const relu = elementwise("relu", "relu", "y");
/** log(1 + e^x), the identity above 20. */
export const softplus = elementwise("softplus", "softplus", "x");

/** abs and neg also take integers, which have no gradient. */
function signed(op: string, t: Tensor): void {
  if (!computes(t) && t.dtype !== "int32" && t.dtype !== "int64")
    throw new DTypeError(op, "needs signed numbers", "float32, float64, int32 or int64", t.dtype);
}

const absOp = defineOp({
  name: "abs",
  infer: ([x]) => {
    signed("abs", x);
    return x;
  },
  forward: ([x], _, out) => launch("abs_fwd", [x], [out]),
  saves: { inputs: [0] },
  backward: (dy, { inputs: [x] }) => launch("abs_bwd", [x, dy], [dy]),
});
/** |x|; its gradient at 0 is 0. */
export function abs(x: Tensor): Tensor {
  return absOp([requireTensor("abs", "input", x)]);
}

const negOp = defineOp({
  name: "neg",
  infer: ([x]) => {
    signed("neg", x);
    return x;
  },
  forward: ([x], _, out) => launch("neg_fwd", [x], [out]),
  backward: (dy) => launch("neg_fwd", [dy], [dy]),
});
/** -x */
export function neg(x: Tensor): Tensor {
  return negOp([requireTensor("neg", "input", x)]);
}

const clampOp = defineOp<{ low: number; high: number }>({
  name: "clamp",
  infer: ([x]) => ({ shape: x.shape, dtype: requireFloat("clamp", x) }),
  forward: ([x], { low, high }, out) => launch("clamp_fwd", [x], [out], [low, high]),
  saves: { inputs: [0] },
  backward: (dy, { inputs: [x], attrs: { low, high } }) => launch("clamp_bwd", [x, dy], [dy], [low, high]),
});
/** min(max(x, low), high); the gradient passes where low <= x <= high. Either bound may be infinite. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  requireTensor("clamp", "input", x);
  for (const bound of [low, high])
    if (typeof bound !== "number" || Number.isNaN(bound))
      throw new ArgumentError("clamp", "a bound is not valid", "a number", show(bound));
  if (low > high) throw new ArgumentError("clamp", "bounds are swapped", "low <= high", `${low} and ${high}`);
  return clampOp([x], { low, high });
}
