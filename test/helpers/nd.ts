/** Row-major float64 arrays for the references: plain loops, nothing of the library. */
export interface NdArray {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export function count(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

export function nd(
  shape: readonly number[],
  data: ArrayLike<number> = new Float64Array(count(shape)),
): NdArray {
  if (data.length !== count(shape))
    throw new Error(`${data.length} elements for the shape [${shape.join(", ")}]`);
  return { shape: [...shape], data: Float64Array.from(data) };
}

/** Row-major strides. */
export function strides(shape: readonly number[]): number[] {
  const result = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    result[axis] = stride;
    stride *= shape[axis];
  }
  return result;
}

/** Calls `visit` with every index of a shape, in row-major order. The array is reused. */
export function eachIndex(
  shape: readonly number[],
  visit: (index: readonly number[], flat: number) => void,
): void {
  const total = count(shape);
  const index = new Array<number>(shape.length).fill(0);
  for (let flat = 0; flat < total; flat++) {
    visit(index, flat);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--) index[axis] = 0;
  }
}

/** A new array by a function of the index. */
export function build(
  shape: readonly number[],
  value: (index: readonly number[], flat: number) => number,
): NdArray {
  const out = nd(shape);
  eachIndex(shape, (index, flat) => {
    out.data[flat] = value(index, flat);
  });
  return out;
}

/** The flat position of an index. */
export function place(shape: readonly number[], index: readonly number[]): number {
  let flat = 0;
  for (let axis = 0; axis < shape.length; axis++) flat = flat * shape[axis] + index[axis];
  return flat;
}

export function at(x: NdArray, ...index: number[]): number {
  return x.data[place(x.shape, index)];
}

export function map(x: NdArray, f: (value: number) => number): NdArray {
  return nd(x.shape, x.data.map(f));
}

export function broadcastShape(...shapes: (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const dims = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1);
    return dims.find((dim) => dim !== 1) ?? 1;
  });
}

/** The element that broadcasting puts at `index` of a larger shape. */
export function broadcastAt(x: NdArray, index: readonly number[]): number {
  const lead = index.length - x.shape.length;
  let flat = 0;
  for (let axis = 0; axis < x.shape.length; axis++)
    flat = flat * x.shape[axis] + (x.shape[axis] === 1 ? 0 : index[lead + axis]);
  return x.data[flat];
}

/** Elementwise over broadcast inputs. */
export function zip(inputs: readonly NdArray[], f: (...values: number[]) => number): NdArray {
  const shape = broadcastShape(...inputs.map((x) => x.shape));
  return build(shape, (index) => f(...inputs.map((x) => broadcastAt(x, index))));
}

/** `axis` as one counted from the front. */
export function front(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** Reduces axes: `fold` sees all elements that fall together, in row-major order. */
export function fold(
  x: NdArray,
  axis: number | readonly number[] | null | undefined,
  keepDims: boolean,
  reduce: (values: number[]) => number,
): NdArray {
  const rank = x.shape.length;
  const named =
    axis === undefined || axis === null ? x.shape.map((_, k) => k) : typeof axis === "number" ? [axis] : axis;
  const axes = new Set(named.map((k) => front(k, rank)));
  const kept = x.shape.map((dim, k) => (axes.has(k) ? 1 : dim));
  const groups: number[][] = Array.from({ length: count(kept) }, () => []);
  eachIndex(x.shape, (index, flat) => {
    groups[
      place(
        kept,
        index.map((i, k) => (axes.has(k) ? 0 : i)),
      )
    ].push(x.data[flat]);
  });
  const shape = keepDims ? kept : x.shape.filter((_, k) => !axes.has(k));
  return nd(shape, groups.map(reduce));
}
