/** Ops that move elements without changing them. */
import { type DType, isDifferentiable } from "../tensor/dtype.js";
import {
  requireAxes,
  requireAxis,
  requireShape,
  type Shape,
  sameShape,
  size,
  stridesOf,
} from "../tensor/shape.js";
import { alias, requireTensor, type Tensor, type TensorSpec } from "../tensor/tensor.js";
import { requireInteger, requireNumber } from "../util/check.js";
import { ArgumentError, ShapeError, show } from "../util/errors.js";
import { cast } from "./cast.js";
import { defineOp, launch, requireSameDType } from "./define.js";
import { sum } from "./reduce.js";

const reshapeOp = defineOp<{ shape: Shape }>({
  name: "reshape",
  infer: ([x], { shape }) => ({ shape, dtype: x.dtype }),
  forward: ([x], { shape }) => alias(x, "reshape", shape),
  backward: (dy, { specs: [x] }) => [reshape(dy, x.shape)],
});
/** The same elements, in order, in another shape; one dimension may be -1 and is computed. Shares storage. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  requireTensor("reshape", "input", x);
  let dims = shape;
  const unknown = Array.isArray(shape) ? shape.indexOf(-1) : -1;
  if (unknown >= 0) {
    const rest = size(requireShape("reshape", shape.with(unknown, 1)));
    if (rest === 0 || x.size % rest !== 0)
      throw new ShapeError("reshape", "the -1 has no answer", `a divisor of ${x.size}`, show(shape));
    dims = shape.with(unknown, x.size / rest);
  }
  const target = requireShape("reshape", dims);
  if (size(target) !== x.size)
    throw new ShapeError(
      "reshape",
      "the number of elements differs",
      `${x.size} as in ${show(x.shape)}`,
      show(shape),
    );
  return reshapeOp([x], { shape: target });
}

/** out[i] = x[offset + sum i_k strides_k]. */
function readStrided(x: Tensor, out: TensorSpec, offset: number, strides: readonly number[]): Tensor {
  return launch("strided_read", [x], [out], [offset, strides.length, ...strides])[0];
}
/** A tensor of `value` with x at offset + sum i_k strides_k. */
function writeStrided(
  x: Tensor,
  out: TensorSpec,
  offset: number,
  strides: readonly number[],
  value: number,
): Tensor {
  return launch("strided_write", [x], [out], [offset, strides.length, ...strides, value])[0];
}

const permuteOp = defineOp<{ order: readonly number[] }>({
  name: "permute",
  infer: ([x], { order }) => ({
    shape: order.map((axis) => x.shape[axis]),
    dtype: x.dtype,
  }),
  forward: ([x], { order }, out) => {
    const strides = stridesOf(x.shape);
    return readStrided(
      x,
      out,
      0,
      order.map((axis) => strides[axis]),
    );
  },
  backward: (dy, { attrs: { order } }) => [
    permute(
      dy,
      order.map((_, axis) => order.indexOf(axis)),
    ),
  ],
});
/** Axes in another order, copied: out axis k is x axis order[k]. */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  requireTensor("permute", "input", x);
  if (!Array.isArray(order) || order.length !== x.rank)
    throw new ShapeError("permute", "order is not valid", `all ${x.rank} axes`, show(order));
  const axes = order.map((axis) => requireAxis("permute", axis, x.rank));
  requireAxes("permute", axes, x.rank);
  return permuteOp([x], { order: axes });
}

/** The last two axes exchanged. */
export function transpose(x: Tensor, a = -2, b = -1): Tensor {
  requireTensor("transpose", "input", x);
  const order = x.shape.map((_, axis) => axis);
  const [first, second] = [requireAxis("transpose", a, x.rank), requireAxis("transpose", b, x.rank)];
  order[first] = second;
  order[second] = first;
  return permute(x, order);
}

const expandOp = defineOp<{ shape: Shape }>({
  name: "expand",
  infer: ([x], { shape }) => ({ shape, dtype: x.dtype }),
  forward: ([x], { shape }, out) => {
    const strides = stridesOf(x.shape);
    const lead = shape.length - x.rank;
    return readStrided(
      x,
      out,
      0,
      shape.map((_, k) => (k < lead || x.shape[k - lead] === 1 ? 0 : strides[k - lead])),
    );
  },
  backward: (dy, { specs: [x] }) => [sumTo(dy, x.shape)],
});
/** Repeats axes of size 1, and adds leading ones, up to `shape`. */
export function expand(x: Tensor, shape: Shape): Tensor {
  requireTensor("expand", "input", x);
  const target = requireShape("expand", shape);
  const lead = target.length - x.rank;
  if (lead < 0 || x.shape.some((dim, k) => dim !== 1 && dim !== target[lead + k]))
    throw new ShapeError(
      "expand",
      "does not broadcast to the shape",
      `a shape that ${show(x.shape)} fits`,
      show(shape),
    );
  return sameShape(target, x.shape) ? reshape(x, target) : expandOp([x], { shape: target });
}

/** Integers add up in int64; a sum in place of x keeps floating dtypes. */
function sumDType(dtype: DType): DType {
  return isDifferentiable(dtype) ? dtype : "int64";
}

/** The inverse of broadcasting: the sum of x over the axes that `shape` lacks or has as 1. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  requireTensor("sumTo", "input", x);
  const lead = x.rank - requireShape("sumTo", shape).length;
  const axes = x.shape.flatMap((dim, k) => (k < lead || (shape[k - lead] === 1 && dim !== 1) ? [k] : []));
  return reshape(axes.length > 0 ? cast(sum(x, axes, true), sumDType(x.dtype)) : x, shape);
}

const concatOp = defineOp<{ axis: number }>({
  name: "concat",
  infer: (inputs, { axis }) => {
    const [first] = inputs;
    for (const t of inputs)
      if (t.rank !== first.rank || t.shape.some((dim, k) => k !== axis && dim !== first.shape[k]))
        throw new ShapeError(
          "concat",
          "shapes differ off the axis",
          `${show(first.shape)} but for axis ${axis}`,
          show(t.shape),
        );
    const total = inputs.reduce((sum, t) => sum + t.shape[axis], 0);
    return {
      shape: requireShape("concat", first.shape.with(axis, total)),
      dtype: requireSameDType("concat", ...inputs),
    };
  },
  forward: (inputs, { axis }, out) => launch("concat_fwd", inputs, [out], [axis]),
  backward: (dy, { specs, needs, attrs: { axis } }) => {
    let at = 0;
    return specs.map((x, k) => {
      const from = at;
      at += x.shape[axis];
      return needs[k] ? slice(dy, axis, from, at) : null;
    });
  },
});
/** Tensors joined along an axis; they agree in all others. */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  if (!Array.isArray(tensors) || tensors.length === 0)
    throw new ArgumentError("concat", "tensors are not valid", "a non-empty array of tensors", show(tensors));
  for (const t of tensors) requireTensor("concat", "an input", t);
  return concatOp(tensors, {
    axis: requireAxis("concat", axis, tensors[0].rank),
  });
}

interface Cut {
  axis: number;
  start: number;
  count: number;
  step: number;
}
/** Offset and strides, in elements of a tensor of `shape`, of what a cut takes. */
function cutLayout(shape: Shape, { axis, start, step, count }: Cut): [number, number[]] {
  const strides = stridesOf(shape);
  return [count === 0 ? 0 : start * strides[axis], strides.with(axis, strides[axis] * step)];
}
const sliceOp = defineOp<Cut>({
  name: "slice",
  infer: ([x], { axis, count }) => ({
    shape: x.shape.with(axis, count),
    dtype: x.dtype,
  }),
  forward: ([x], cut, out) => readStrided(x, out, ...cutLayout(x.shape, cut)),
  backward: (dy, { specs: [x], attrs }) => [writeStrided(dy, x, ...cutLayout(x.shape, attrs), 0)],
});
/**
 * Entries start, start + step, ... below end along one axis. Negative positions count from the end; positions beyond it are
 * cut to it, as in NumPy. Steps are at least 1 (see `flip`).
 */
export function slice(x: Tensor, axis: number, start = 0, end?: number, step = 1): Tensor {
  const op = "slice";
  requireTensor(op, "input", x);
  const along = requireAxis(op, axis, x.rank);
  const dim = x.shape[along];
  const place = (v: number): number => Math.min(dim, Math.max(0, v < 0 ? v + dim : v));
  const from = place(requireInteger(op, "start", start));
  const to = place(end === undefined || end === null ? dim : requireInteger(op, "end", end));
  const count = Math.max(0, Math.ceil((to - from) / requireInteger(op, "step", step, 1)));
  return sliceOp([x], { axis: along, start: from, count, step });
}

/** x cut along an axis into pieces: a number of equal ones, or a list of sizes that add up. */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const op = "split";
  requireTensor(op, "input", x);
  const along = requireAxis(op, axis, x.rank);
  const dim = x.shape[along];
  let sizes: readonly number[];
  if (Array.isArray(parts)) sizes = parts.map((part) => requireInteger(op, "a size", part, 0));
  else {
    const n = requireInteger(op, "parts", parts, 1, 2 ** 20);
    if (dim % n !== 0)
      throw new ShapeError(op, "pieces would differ in size", `a divisor of ${dim}`, show(n));
    sizes = new Array<number>(n).fill(dim / n);
  }
  if (sizes.reduce((a, b) => a + b, 0) !== dim)
    throw new ShapeError(op, "sizes do not add up", `a sum of ${dim}`, show(sizes));
  let at = 0;
  return sizes.map((n) => slice(x, along, at, (at += n)));
}

interface Padding {
  widths: readonly (readonly [number, number])[];
  value: number;
}
const padOp = defineOp<Padding>({
  name: "pad",
  infer: ([x], { widths }) => ({
    shape: requireShape(
      "pad",
      x.shape.map((dim, k) => dim + widths[k][0] + widths[k][1]),
    ),
    dtype: x.dtype,
  }),
  forward: ([x], { widths, value }, out) => {
    const strides = stridesOf(out.shape);
    const offset = x.size === 0 ? 0 : widths.reduce((sum, [before], k) => sum + before * strides[k], 0);
    return writeStrided(x, out, offset, strides, value);
  },
  backward: (dy, { specs: [x], attrs: { widths } }) => {
    const strides = stridesOf(dy.shape);
    const offset =
      dy.size === 0 || size(x.shape) === 0
        ? 0
        : widths.reduce((sum, [before], k) => sum + before * strides[k], 0);
    return [readStrided(dy, x, offset, strides)];
  },
});
/** x surrounded by `value`: widths[k] = [before, after] for axis k, at least 0. */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
  const op = "pad";
  requireTensor(op, "input", x);
  if (
    !Array.isArray(widths) ||
    widths.length !== x.rank ||
    !widths.every((w) => Array.isArray(w) && w.length === 2)
  )
    throw new ShapeError(op, "widths are not valid", `${x.rank} pairs [before, after]`, show(widths));
  for (const width of widths.flat()) requireInteger(op, "a width", width, 0, 2 ** 31);
  return padOp([x], { widths, value: requireNumber(op, "value", value) });
}

const flipOp = defineOp<{ axes: readonly number[] }>({
  name: "flip",
  infer: ([x]) => x,
  forward: ([x], { axes }, out) => {
    const strides = stridesOf(x.shape);
    const offset =
      x.size === 0 ? 0 : axes.reduce((sum, axis) => sum + (x.shape[axis] - 1) * strides[axis], 0);
    return readStrided(
      x,
      out,
      offset,
      strides.map((stride, axis) => (axes.includes(axis) ? -stride : stride)),
    );
  },
  backward: (dy, { attrs: { axes } }) => [flip(dy, axes)],
});
/** x in reverse order along the given axes (all by default). */
export function flip(x: Tensor, axes?: number | readonly number[] | null): Tensor {
  requireTensor("flip", "input", x);
  return flipOp([x], { axes: requireAxes("flip", axes, x.rank) });
}

/** x turned along axes: what falls off one end comes back at the other. out[i + shift] = x[i]. */
export function roll(
  x: Tensor,
  shifts: number | readonly number[],
  axes: number | readonly number[],
): Tensor {
  const op = "roll";
  requireTensor(op, "input", x);
  const shiftList = Array.isArray(shifts) ? shifts : [shifts];
  const axisList = Array.isArray(axes) ? axes : [axes];
  if (shiftList.length !== axisList.length)
    throw new ArgumentError(
      op,
      "shifts and axes differ in number",
      `${axisList.length} shifts`,
      `${shiftList.length}`,
    );
  let y = x;
  for (let k = 0; k < axisList.length; k++) {
    const axis = requireAxis(op, axisList[k], x.rank);
    const dim = x.shape[axis];
    const shift = requireInteger(op, "a shift", shiftList[k]);
    const cut = dim === 0 ? 0 : ((-shift % dim) + dim) % dim;
    if (cut !== 0) y = concat([slice(y, axis, cut), slice(y, axis, 0, cut)], axis);
  }
  return y === x ? reshape(x, x.shape) : y;
}
