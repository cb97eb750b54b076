import { ArgumentError, DTypeError, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import { at, broadcastShape, build, map, type NdArray, nd } from "../../helpers/nd.js";
import { normalCdf } from "../../helpers/special_functions.js";
import { type Case, FLOATS, type InputSpec, type OpRow, row } from "./row.js";

interface MatmulOptions {
  transposeA?: boolean;
  transposeB?: boolean;
}

/** The last two axes exchanged. */
function transposed(x: NdArray): NdArray {
  const shape = [...x.shape.slice(0, -2), x.shape[x.shape.length - 1], x.shape[x.shape.length - 2]];
  return build(shape, (index) =>
    at(x, ...index.slice(0, -2), index[index.length - 1], index[index.length - 2]),
  );
}
/** The matrix at a batch index that broadcasts. */
function entry(x: NdArray, batch: readonly number[], i: number, j: number): number {
  const lead = batch.length - (x.shape.length - 2);
  return at(x, ...x.shape.slice(0, -2).map((dim, k) => (dim === 1 ? 0 : batch[lead + k])), i, j);
}
function matmulOf(
  [a, b]: readonly NdArray[],
  { transposeA = false, transposeB = false }: MatmulOptions = {},
): NdArray {
  let left = a.shape.length === 1 ? nd([1, a.shape[0]], a.data) : a;
  let right = b.shape.length === 1 ? nd([b.shape[0], 1], b.data) : b;
  if (transposeA && a.shape.length > 1) left = transposed(left);
  if (transposeB && b.shape.length > 1) right = transposed(right);
  const batch = broadcastShape(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const [m, k] = left.shape.slice(-2);
  const n = right.shape[right.shape.length - 1];
  const full = build([...batch, m, n], (index) => {
    const where = index.slice(0, -2);
    let sum = 0;
    for (let p = 0; p < k; p++)
      sum += entry(left, where, index[index.length - 2], p) * entry(right, where, p, index[index.length - 1]);
    return sum;
  });
  const shape = [...batch, ...(a.shape.length === 1 ? [] : [m]), ...(b.shape.length === 1 ? [] : [n])];
  return nd(shape, full.data);
}

type MatmulCase = Case<[MatmulOptions?]>;
const of = (...shapes: readonly (readonly number[])[]): InputSpec[] => shapes.map((shape) => ({ shape }));
/** m, n and k around the sizes of registers, tiles and panels, with all four transpositions. */
const SIZES: readonly [m: number, k: number, n: number][] = [
  [1, 1, 1],
  [2, 3, 4],
  [5, 7, 3],
  [1, 33, 1],
  [31, 1, 33],
  [7, 65, 17],
  [33, 31, 32],
  [64, 64, 64],
  [65, 66, 67],
  [6, 129, 48],
  [127, 3, 5],
  [3, 257, 127],
  [9, 513, 49],
  [97, 5, 97],
  [3, 2, 530],
];
const flags: MatmulOptions[] = [
  {},
  { transposeA: true },
  { transposeB: true },
  { transposeA: true, transposeB: true },
];
const x = () => ops.ones([2, 3]);
const matmul = row<[MatmulOptions?]>({
  op: "matmul",
  reference: matmulOf,
  cases: [
    ...SIZES.flatMap(([m, k, n]) =>
      flags.map(
        (options): MatmulCase => ({
          inputs: of(options.transposeA ? [k, m] : [m, k], options.transposeB ? [n, k] : [k, n]),
          extra: [options],
        }),
      ),
    ),
    { inputs: of([3], [3]) },
    { inputs: of([3], [3, 2]) },
    { inputs: of([2, 3], [3]) },
    { inputs: of([3], [2, 3, 2]) },
    { inputs: of([2, 2, 3], [3]) },
    { inputs: of([1], [1]) },
    { inputs: of([3], [3]), extra: [{ transposeA: true, transposeB: true }] },
    { inputs: of([2, 2, 3], [2, 3, 2]) },
    { inputs: of([2, 2, 3], [3, 2]) },
    { inputs: of([2, 3], [2, 3, 2]) },
    { inputs: of([2, 1, 2, 3], [3, 3, 2]) },
    { inputs: of([1, 2, 1, 2, 1, 3], [2, 1, 2, 1, 3, 2]) },
    { inputs: of([2, 3, 2], [2, 3, 2]), extra: [{ transposeA: true }] },
    { inputs: of([5, 33, 20], [5, 20, 31]) },
    { inputs: of([5, 33, 20], [1, 31, 20]), extra: [{ transposeB: true }] },
    { inputs: of([0, 3], [3, 2]) },
    { inputs: of([2, 0], [0, 3]) },
    { inputs: of([2, 3], [3, 0]) },
    { inputs: of([0, 2, 3], [3, 2]) },
    { inputs: of([0], [0]) },
    { inputs: of([2, 2500], [2500, 3]) },
  ],
  dtypes: FLOATS,
  tolerance: {
    terms: ([a], options: MatmulOptions = {}) =>
      Math.max(1, a[a.length - (options.transposeA && a.length > 1 ? 2 : 1)]),
  },
  errors: [
    {
      what: "a scalar",
      call: () => ops.matmul(ops.ones([]), x()),
      error: ShapeError,
    },
    {
      what: "inner dimensions",
      call: () => ops.matmul(x(), x()),
      error: ShapeError,
    },
    {
      what: "inner dimensions of vectors",
      call: () => ops.matmul(ops.ones([2]), ops.ones([3])),
      error: ShapeError,
    },
    {
      what: "batches",
      call: () => ops.matmul(ops.ones([2, 2, 3]), ops.ones([3, 3, 2])),
      error: ShapeError,
    },
    {
      what: "a result past the largest",
      call: () => ops.matmul(ops.ones([2 ** 30, 0]), ops.ones([0, 2 ** 30])),
      error: ShapeError,
    },
    {
      what: "a flag as a number",
      call: () => ops.matmul(x(), x(), { transposeB: 1 as never }),
      error: ArgumentError,
    },
    {
      what: "an unknown option",
      call: () => ops.matmul(x(), x(), { transpose: true } as never),
      error: ArgumentError,
    },
    {
      what: "a number",
      call: () => ops.matmul(x(), 2 as never),
      error: ArgumentError,
    },
  ],
});

/** y[.., o] = sum_i x[.., i] weight[o, i] + bias[o] */
function linearOf([x, weight, bias]: readonly NdArray[]): NdArray {
  const [out, inner] = weight.shape;
  return build([...x.shape.slice(0, -1), out], (index, flat) => {
    const [rowIndex, o] = [Math.floor(flat / out), index[index.length - 1]];
    let sum = bias ? bias.data[o] : 0;
    for (let i = 0; i < inner; i++) sum += x.data[rowIndex * inner + i] * weight.data[o * inner + i];
    return sum;
  });
}
const lastDim = ([x]: readonly (readonly number[])[]) => Math.max(1, x[x.length - 1] + 1);
const LINEAR: Pick<OpRow<[]>, "cases" | "dtypes" | "tolerance" | "parameters"> = {
  cases: [
    ...SIZES.flatMap(([m, k, n]) => [
      { inputs: of([m, k], [n, k], [n]) },
      { inputs: [...of([m, k], [n, k]), null] },
    ]),
    { inputs: of([3], [2, 3], [2]) },
    { inputs: of([2, 2, 3], [2, 3], [2]) },
    { inputs: of([1, 2, 1, 2, 1, 3], [2, 3], [2]) },
    { inputs: of([4, 9, 33], [65, 33], [65]) },
    { inputs: of([0, 3], [2, 3], [2]) },
    { inputs: of([2, 0], [3, 0], [3]) },
    { inputs: of([2, 3], [0, 3], [0]) },
    { inputs: of([196, 96], [7, 96], [7]) },
    { inputs: of([300, 192], [136, 192], [136]) },
    { inputs: of([1541, 5], [3, 5], [3]) },
  ],
  dtypes: FLOATS,
  parameters: [1, 2],
  tolerance: { terms: lastDim },
};
const linear = row<[]>({
  op: "linear",
  reference: linearOf,
  ...LINEAR,
  errors: [
    {
      what: "a scalar",
      call: () => ops.linear(ops.ones([]), ops.ones([2, 3])),
      error: ShapeError,
    },
    {
      what: "input and weight",
      call: () => ops.linear(x(), ops.ones([3, 2])),
      error: ShapeError,
    },
    {
      what: "a weight of higher rank",
      call: () => ops.linear(x(), ops.ones([1, 2, 3])),
      error: ShapeError,
    },
    {
      what: "a bias of another size",
      call: () => ops.linear(x(), ops.ones([2, 3]), ops.ones([3])),
      error: ShapeError,
    },
    {
      what: "a bias of another dtype",
      call: () => ops.linear(x(), ops.ones([2, 3]), ops.ones([2], { dtype: "float64" })),
      error: DTypeError,
    },
    {
      what: "no weight",
      call: () => ops.linear(x(), undefined as never),
      error: ArgumentError,
    },
  ],
});

/** y[.., o] = sum_i gelu(h[.., i]) weight[o, i] + bias[o] */
const geluLinear = row<[]>({
  op: "geluLinear",
  reference: ([h, weight, bias]) => linearOf([map(h, (v) => v * normalCdf(v)), weight, bias]),
  ...LINEAR,
  // the reference of absolute values bounds the sum of |terms|; GELU itself is a few units off (see elementwise.ts)
  tolerance: { terms: (shapes) => 16 * lastDim(shapes) },
  errors: [
    {
      what: "input and weight",
      call: () => ops.geluLinear(x(), ops.ones([3, 2])),
      error: ShapeError,
    },
    {
      what: "a bias of another size",
      call: () => ops.geluLinear(x(), ops.ones([2, 3]), ops.ones([3])),
      error: ShapeError,
    },
    {
      what: "a bias of another dtype",
      call: () => ops.geluLinear(x(), ops.ones([2, 3]), ops.ones([2], { dtype: "float64" })),
      error: DTypeError,
    },
    {
      what: "a number for the weight",
      call: () => ops.geluLinear(x(), 2 as never),
      error: ArgumentError,
    },
  ],
});

/** y[.., g, o] = sum_i x[.., g, i] weight[g, o, i] */
function groupedLinearOf([x, weight]: readonly NdArray[]): NdArray {
  const [groups, out, inner] = weight.shape;
  return build([...x.shape.slice(0, -1), out], (index, flat) => {
    const [rowIndex, o] = [Math.floor(flat / out), index[index.length - 1]];
    let sum = 0;
    for (let i = 0; i < inner; i++)
      sum += x.data[rowIndex * inner + i] * weight.data[((rowIndex % groups) * out + o) * inner + i];
    return sum;
  });
}
const groupedLinear = row<[]>({
  op: "groupedLinear",
  reference: groupedLinearOf,
  cases: [
    { inputs: of([1, 1], [1, 1, 1]) },
    { inputs: of([2, 3], [2, 2, 3]) },
    { inputs: of([2, 2, 3], [2, 4, 3]) },
    { inputs: of([3, 4, 5], [4, 2, 5]) },
    { inputs: of([1, 2, 2, 3], [2, 2, 3]) },
    { inputs: of([1, 2, 1, 2, 2, 2], [2, 1, 2]) },
    { inputs: of([7, 4, 31], [4, 33, 31]) },
    { inputs: of([2, 49, 2, 96], [2, 35, 96]) },
    { inputs: of([65, 1, 17], [1, 65, 17]) },
    { inputs: of([5, 3, 127], [3, 1, 127]) },
    { inputs: of([0, 2, 3], [2, 2, 3]) },
    { inputs: of([2, 2, 0], [2, 3, 0]) },
    { inputs: of([2, 2, 3], [2, 0, 3]) },
    { inputs: of([2, 0, 3], [0, 2, 3]) },
    { inputs: of([33, 2, 6], [2, 40, 6]) },
    { inputs: of([1, 2, 257], [2, 3, 257]) },
  ],
  parameters: [1],
  dtypes: FLOATS,
  tolerance: { terms: lastDim },
  errors: [
    {
      what: "a vector",
      call: () => ops.groupedLinear(ops.ones([3]), ops.ones([1, 2, 3])),
      error: ShapeError,
    },
    {
      what: "groups",
      call: () => ops.groupedLinear(ops.ones([2, 3]), ops.ones([3, 2, 3])),
      error: ShapeError,
    },
    {
      what: "inner dimensions",
      call: () => ops.groupedLinear(ops.ones([2, 3]), ops.ones([2, 2, 4])),
      error: ShapeError,
    },
    {
      what: "a matrix as weight",
      call: () => ops.groupedLinear(ops.ones([2, 3]), ops.ones([2, 3])),
      error: ShapeError,
    },
    {
      what: "no weight",
      call: () => ops.groupedLinear(x(), null as never),
      error: ArgumentError,
    },
  ],
});

export const products: OpRow[] = [matmul, linear, geluLinear, groupedLinear];
