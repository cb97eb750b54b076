/** Shape arithmetic: pure functions, no device. */
import { ArgumentError, ShapeError, show } from "../util/errors.js";

export type Shape = readonly number[];

export const MAX_RANK = 6;
/** Elements of the largest tensor: 2^46 bytes of the smallest dtype, far from where float64 loses integers. */
const MAX_ELEMENTS = 2 ** 46;

/** A copy of an array of whole numbers, rank 0 to 6, whose product is in range. */
export function requireShape(op: string, shape: unknown): number[] {
  checkShape(op, shape);
  return [...shape];
}

/** The same check, without a copy. */
export function checkShape(op: string, shape: unknown): asserts shape is Shape {
  if (!Array.isArray(shape))
    throw new ShapeError(op, "shape is not valid", "an array of dimensions", show(shape));
  if (shape.length > MAX_RANK)
    throw new ShapeError(op, "too many dimensions", `at most ${MAX_RANK}`, `${shape.length}`);
  let empty = false;
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0)
      throw new ShapeError(op, "a dimension is not valid", "whole numbers of at least 0", show(shape));
    empty ||= dim === 0;
  }
  let product = 1;
  for (const dim of shape) {
    product *= empty && dim === 0 ? 1 : dim;
    if (product > MAX_ELEMENTS) throw new ShapeError(op, "too large", "at most 2^46 elements", show(shape));
  }
}

export function size(shape: Shape): number {
  let n = 1;
  for (const dim of shape) n *= dim;
  return n;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let axis = 0; axis < a.length; axis++) if (a[axis] !== b[axis]) return false;
  return true;
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

/** NumPy broadcasting of two shapes. */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const result = new Array<number>(rank);
  for (let axis = 0; axis < rank; axis++) {
    const da = a[a.length - rank + axis] ?? 1;
    const db = b[b.length - rank + axis] ?? 1;
    if (da !== db && da !== 1 && db !== 1)
      throw new ShapeError(
        op,
        "shapes do not broadcast",
        "equal dimensions or 1",
        `${show(a)} and ${show(b)}`,
      );
    result[axis] = da === 1 ? db : da;
  }
  return result;
}

/** An axis of a tensor of this rank; negative ones count from the end. */
export function requireAxis(op: string, axis: unknown, rank: number): number {
  if (typeof axis !== "number" || !Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw new ShapeError(op, "axis is out of range", `an integer from ${-rank} to ${rank - 1}`, show(axis));
  return axis < 0 ? axis + rank : axis;
}

/** Axes in ascending order; absent means all of them. */
export function requireAxes(op: string, axes: unknown, rank: number): number[] {
  if (axes === undefined || axes === null) return Array.from({ length: rank }, (_, axis) => axis);
  const list = (Array.isArray(axes) ? axes : [axes]).map((axis) => requireAxis(op, axis, rank));
  if (new Set(list).size !== list.length)
    throw new ShapeError(op, "an axis is named twice", "distinct axes", show(axes));
  return list.sort((a, b) => a - b);
}

/** A number for both directions, or a pair [rows, columns]. */
export function requirePair(op: string, what: string, value: unknown, min: number): [number, number] {
  const pair = Array.isArray(value) ? value : [value, value];
  if (pair.length !== 2 || !pair.every((v) => Number.isSafeInteger(v) && v >= min && v < 2 ** 31))
    throw new ArgumentError(op, `${what} is not valid`, `an integer of at least ${min}, or two`, show(value));
  return [pair[0], pair[1]];
}
