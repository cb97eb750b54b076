/** Reductions over any axes. `axis`: one axis, several, or absent for all; negative ones count from the end. */
import { type DType, isFloat, parameterDType } from "../tensor/dtype.js";
import { requireAxes, size } from "../tensor/shape.js";
import { requireTensor, type Tensor, type TensorSpec } from "../tensor/tensor.js";
import { requireBoolean, requireNumber } from "../util/check.js";
import { DTypeError, ShapeError, show } from "../util/errors.js";
import { div, eq, mul, sub, where } from "./arithmetic.js";
import { cast } from "./cast.js";
import { computes, defineOp, launch, requireFloat } from "./define.js";
import { exp } from "./elementwise.js";
import { expand, permute, reshape } from "./shape_ops.js";

export type Axis = number | readonly number[] | null;

interface Reduction {
  axes: readonly number[];
  keepDims: boolean;
}

function reduction(op: string, x: Tensor, axis: Axis | undefined, keepDims: boolean): Reduction {
  requireTensor(op, "input", x);
  return {
    axes: requireAxes(op, axis, x.rank),
    keepDims: requireBoolean(op, "keepDims", keepDims),
  };
}

function reducedShape(shape: readonly number[], { axes, keepDims }: Reduction): number[] {
  return keepDims
    ? shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))
    : shape.filter((_, axis) => !axes.includes(axis));
}

/** Runs a kernel of native/cpu/reduce.cpp. Axes that do not lie side by side are brought together first. */
function reduceKernel(kernel: string, x: Tensor, { axes }: Reduction, out: TensorSpec): Tensor {
  const first = axes.length > 0 ? axes[0] : x.rank;
  const together = axes.every((axis, k) => axis === first + k);
  if (!together) {
    const rest = x.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    x = permute(x, [...rest, ...axes]);
    axes = axes.map((_, k) => rest.length + k);
  }
  const at = axes.length > 0 ? axes[0] : x.rank;
  const outer = size(x.shape.slice(0, at));
  const n = size(x.shape.slice(at, at + axes.length));
  return launch(kernel, [x], [out], [outer, n, size(x.shape.slice(at + axes.length))])[0];
}

/** A reduced tensor with the reduced axes back as ones, spread to `shape`. */
function spread(y: Tensor, shape: readonly number[], { axes }: Reduction): Tensor {
  return expand(reshape(y, reducedShape(shape, { axes, keepDims: true })), shape);
}

const sumOp = defineOp<Reduction>({
  name: "sum",
  infer: ([x], r) => {
    refuseBfloat16("sum", x);
    const dtype = parameterDType(x.dtype);
    return { shape: reducedShape(x.shape, r), dtype: isFloat(dtype) ? dtype : ("int64" as DType) };
  },
  forward: ([x], r, out) => reduceKernel("sum_fwd", x, r, out),
  backward: (dy, { attrs, specs: [x] }) => [spread(cast(dy, x.dtype), x.shape, attrs)],
});
/** Sum. Integers and bool add up in int64, bfloat16 in float32. */
export function sum(x: Tensor, axis?: Axis, keepDims = false): Tensor {
  return sumOp([x], reduction("sum", x, axis, keepDims));
}

/** Mean of a floating tensor (of bfloat16: float32); NaN over no elements. */
export function mean(x: Tensor, axis?: Axis, keepDims = false): Tensor {
  const r = reduction("mean", x, axis, keepDims);
  requireFloat("mean", x);
  return div(sumOp([x], r), size(r.axes.map((a) => x.shape[a])));
}

/** Variance; `correction` is subtracted from the count (1: unbiased, 0: of the population). */
export function variance(x: Tensor, axis?: Axis, keepDims = false, correction = 1): Tensor {
  const r = reduction("var", x, axis, keepDims);
  requireFloat("var", x);
  requireNumber("var", "correction", correction, 0);
  const centred = sub(cast(x, parameterDType(x.dtype)), mean(x, r.axes, true));
  const count = size(r.axes.map((a) => x.shape[a]));
  return div(sumOp([mul(centred, centred)], r), Math.max(0, count - correction));
}

function extreme(name: string): (x: Tensor, axis?: Axis, keepDims?: boolean) => Tensor {
  const op = defineOp<Reduction>({
    name,
    infer: ([x], r) => {
      requireElements(name, x, r);
      return { shape: reducedShape(x.shape, r), dtype: x.dtype };
    },
    forward: ([x], r, out) => reduceKernel(`${name}_fwd`, x, r, out),
    saves: { inputs: [0], output: true },
    // Equal extremes share the gradient.
    backward: (dy, { inputs: [x], output, attrs }) => {
      const hit = where(eq(x, spread(output, x.shape, attrs)), 1, mul(x, 0));
      const share = div(hit, cast(sum(hit, attrs.axes, true), hit.dtype));
      return [mul(share, spread(dy, x.shape, attrs))];
    },
  });
  return (x, axis, keepDims = false) => op([x], reduction(name, x, axis, keepDims));
}
/** Largest element; NaN wins. Several largest ones share the gradient. */
export const max = extreme("max");
/** Smallest element; NaN wins. Several smallest ones share the gradient. */
export const min = extreme("min");

function refuseBfloat16(op: string, x: Tensor): void {
  if (x.dtype === "bfloat16" && !computes(x))
    throw new DTypeError(op, "has no bfloat16 form (cast it)", "float32", "bfloat16");
}

function requireElements(op: string, x: Tensor, { axes }: Reduction): void {
  refuseBfloat16(op, x);
  if (axes.some((axis) => x.shape[axis] === 0))
    throw new ShapeError(op, "nothing to reduce", "at least one element", `shape ${show(x.shape)}`);
}

const argmaxOp = defineOp<Reduction>({
  name: "argmax",
  infer: ([x], r) => {
    requireElements("argmax", x, r);
    return { shape: reducedShape(x.shape, r), dtype: "int64" as DType };
  },
  forward: ([x], r, out) => reduceKernel("argmax_fwd", x, r, out),
});
/** Index of the largest element as int64, over one axis or, flattened, over all; the lowest index of equals, NaN counts as largest. */
export function argmax(x: Tensor, axis?: number | null, keepDims = false): Tensor {
  const r = reduction("argmax", x, axis, keepDims);
  if (axis !== undefined && axis !== null && typeof axis !== "number")
    throw new ShapeError("argmax", "takes one axis", "an axis, or none for all", show(axis));
  return argmaxOp([x], r);
}

const logsumexpOp = defineOp<Reduction>({
  name: "logsumexp",
  infer: ([x], r) => ({
    shape: reducedShape(x.shape, r),
    dtype: requireFloat("logsumexp", x),
  }),
  forward: ([x], r, out) => reduceKernel("logsumexp_fwd", x, r, out),
  saves: { inputs: [0], output: true },
  backward: (dy, { inputs: [x], output, attrs }) => {
    // all -inf: the shift is infinite and so the exponent NaN; the gradient there is 0
    const shift = spread(output, x.shape, attrs);
    const weight = where(eq(shift, -Infinity), 0, exp(sub(x, shift)));
    return [mul(weight, spread(dy, x.shape, attrs))];
  },
});
/** log sum e^x, without overflow. */
export function logsumexp(x: Tensor, axis?: Axis, keepDims = false): Tensor {
  const r = reduction("logsumexp", x, axis, keepDims);
  // a result rounded to bfloat16 is no shift to take gradients with
  if (requireFloat("logsumexp", x) !== "bfloat16") return logsumexpOp([x], r);
  return cast(logsumexpOp([cast(x, "float32")], r), "bfloat16");
}
