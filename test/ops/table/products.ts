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

type Pair = number | [number, number];
interface ConvOptions {
  stride?: Pair;
  padding?: Pair;
  dilation?: Pair;
  groups?: number;
}
const pair = (value: Pair): [number, number] => (typeof value === "number" ? [value, value] : value);

function conv2dOf([x, weight, bias]: readonly NdArray[], options: ConvOptions = {}): NdArray {
  const [stride, padding, dilation] = [
    pair(options.stride ?? 1),
    pair(options.padding ?? 0),
    pair(options.dilation ?? 1),
  ];
  const groups = options.groups ?? 1;
  const [batch, height, width] = x.shape;
  const [out, perGroup, rows, columns] = weight.shape;
  const outHeight = Math.floor((height + 2 * padding[0] - dilation[0] * (rows - 1) - 1) / stride[0]) + 1;
  const outWidth = Math.floor((width + 2 * padding[1] - dilation[1] * (columns - 1) - 1) / stride[1]) + 1;
  return build([batch, outHeight, outWidth, out], ([b, i, j, o]) => {
    const group = Math.floor(o / (out / groups));
    let sum = bias ? bias.data[o] : 0;
    for (let r = 0; r < rows; r++)
      for (let s = 0; s < columns; s++) {
        const [y, z] = [
          i * stride[0] - padding[0] + r * dilation[0],
          j * stride[1] - padding[1] + s * dilation[1],
        ];
        if (y < 0 || y >= height || z < 0 || z >= width) continue;
        for (let c = 0; c < perGroup; c++)
          sum += at(x, b, y, z, group * perGroup + c) * at(weight, o, c, r, s);
      }
    return sum;
  });
}
type ConvCase = Case<[ConvOptions?]>;
/** Image and weight, with and without bias; gradients where they are small. */
function convCases(
  image: readonly number[],
  weight: readonly number[],
  options?: ConvOptions,
  gradcheck?: boolean,
): ConvCase[] {
  const extra: [ConvOptions?] = [options];
  return [
    { inputs: of(image, weight, [weight[0]]), extra, gradcheck },
    { inputs: [...of(image, weight), null], extra, gradcheck },
  ];
}
const conv2d = row<[ConvOptions?]>({
  op: "conv2d",
  reference: conv2dOf,
  cases: [
    ...convCases([1, 1, 1, 1], [1, 1, 1, 1]),
    ...convCases([1, 3, 3, 1], [1, 1, 2, 2]),
    ...convCases([1, 3, 4, 2], [2, 2, 3, 3], { padding: 1 }, true),
    ...convCases([2, 4, 3, 2], [3, 2, 2, 3], { stride: [2, 1], padding: [1, 0] }, true),
    ...convCases([1, 5, 6, 1], [2, 1, 2, 2], { dilation: [2, 3] }, true),
    ...convCases([1, 5, 5, 2], [2, 1, 3, 3], { padding: 1, groups: 2 }, true),
    ...convCases([1, 5, 4, 4], [4, 2, 2, 2], { stride: 2, padding: 1, groups: 2 }, true),
    ...convCases([1, 4, 4, 2], [4, 1, 3, 3], { padding: 1, groups: 2 }, true),
    ...convCases([1, 6, 7, 2], [2, 2, 3, 2], { stride: [3, 2], padding: [2, 1], dilation: [2, 1] }, true),
    ...convCases([1, 5, 6, 3], [3, 1, 3, 3], { stride: 2, padding: 1, groups: 3 }, true),
    ...convCases([1, 6, 6, 2], [2, 1, 3, 3], { padding: 2, dilation: 2, groups: 2 }, true),
    ...convCases([2, 7, 9, 5], [7, 5, 3, 3], { padding: 1 }),
    ...convCases([2, 7, 9, 33], [31, 33, 1, 1]),
    ...convCases([1, 13, 11, 3], [17, 3, 4, 4], { stride: 4 }),
    ...convCases([1, 13, 11, 3], [17, 3, 7, 5], {
      stride: [2, 3],
      padding: [3, 2],
    }),
    ...convCases([2, 14, 14, 33], [33, 1, 3, 3], { padding: 1, groups: 33 }),
    ...convCases([1, 9, 17, 65], [65, 1, 3, 3], {
      padding: 1,
      groups: 65,
      stride: 2,
    }),
    ...convCases([1, 9, 8, 16], [16, 1, 5, 5], { padding: 2, groups: 16 }),
    ...convCases([1, 9, 8, 8], [8, 1, 7, 1], { padding: [3, 0], groups: 8 }),
    ...convCases([1, 8, 8, 12], [18, 4, 3, 3], { padding: 1, groups: 3 }),
    ...convCases([1, 20, 20, 2], [3, 2, 3, 3], { padding: 5 }),
    ...convCases([3, 2, 2, 40], [9, 40, 2, 2]),
    ...convCases([1, 31, 33, 1], [1, 1, 3, 3], { padding: 1 }),
    ...convCases([1, 1, 65, 4], [5, 4, 1, 3], { padding: [0, 1] }),
    ...convCases([0, 4, 4, 2], [2, 2, 3, 3]),
    ...convCases([1, 16, 16, 8], [64, 8, 3, 3], { padding: 1 }),
  ],
  parameters: [1, 2],
  dtypes: FLOATS,
  tolerance: {
    terms: ([, weight]) => Math.max(1, weight[1] * weight[2] * weight[3] + 1),
  },
  errors: [
    {
      what: "an image of rank 3",
      call: () => ops.conv2d(ops.ones([4, 4, 1]), ops.ones([1, 1, 2, 2])),
      error: ShapeError,
    },
    {
      what: "a weight of rank 2",
      call: () => ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1])),
      error: ShapeError,
    },
    {
      what: "channels",
      call: () => ops.conv2d(ops.ones([1, 4, 4, 3]), ops.ones([1, 2, 2, 2])),
      error: ShapeError,
    },
    {
      what: "groups that do not divide out",
      call: () =>
        ops.conv2d(ops.ones([1, 4, 4, 4]), ops.ones([3, 2, 2, 2]), null, {
          groups: 2,
        }),
      error: ShapeError,
    },
    {
      what: "a bias of another size",
      call: () => ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([2, 1, 2, 2]), ops.ones([1])),
      error: ShapeError,
    },
    {
      what: "a kernel larger than the image",
      call: () => ops.conv2d(ops.ones([1, 2, 2, 1]), ops.ones([1, 1, 3, 3])),
      error: ShapeError,
    },
    {
      what: "a dilated kernel larger than the image",
      call: () =>
        ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1, 3, 3]), null, {
          dilation: 2,
        }),
      error: ShapeError,
    },
    {
      what: "an image without channels",
      call: () => ops.conv2d(ops.ones([1, 4, 4, 0]), ops.ones([2, 0, 3, 3])),
      error: ShapeError,
    },
    {
      what: "a kernel without output",
      call: () => ops.conv2d(ops.ones([1, 4, 4, 2]), ops.ones([0, 2, 3, 3])),
      error: ShapeError,
    },
    {
      what: "an empty kernel",
      call: () => ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1, 0, 3])),
      error: ShapeError,
    },
    {
      what: "stride 0",
      call: () =>
        ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1, 2, 2]), null, {
          stride: 0,
        }),
      error: ArgumentError,
    },
    {
      what: "a negative padding",
      call: () =>
        ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1, 2, 2]), null, {
          padding: -1,
        }),
      error: ArgumentError,
    },
    {
      what: "three strides",
      call: () =>
        ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1, 2, 2]), null, {
          stride: [1, 1, 1] as never,
        }),
      error: ArgumentError,
    },
    {
      what: "no groups",
      call: () =>
        ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1, 2, 2]), null, {
          groups: 0,
        }),
      error: ArgumentError,
    },
    {
      what: "dtypes",
      call: () => ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1, 2, 2], { dtype: "float64" })),
      error: DTypeError,
    },
    {
      what: "an unknown option",
      call: () =>
        ops.conv2d(ops.ones([1, 4, 4, 1]), ops.ones([1, 1, 2, 2]), null, {
          pad: 1,
        } as never),
      error: ArgumentError,
    },
  ],
});

/** silu of a depthwise 3x3 convolution */
function depthwiseSiluOf([x, weight, bias]: readonly NdArray[]): NdArray {
  const z = conv2dOf([x, weight, bias], { padding: 1, groups: x.shape[3] });
  return map(z, (v) => v / (1 + Math.exp(-v)));
}
const depthwiseSilu = row<[]>({
  op: "depthwiseSilu",
  reference: depthwiseSiluOf,
  cases: [
    [1, 1, 1, 1],
    [1, 2, 3, 1],
    [2, 3, 2, 2],
    [1, 1, 5, 3],
    [1, 4, 1, 7],
    [1, 5, 6, 33],
    [2, 7, 7, 24],
    [3, 4, 9, 8],
    [1, 13, 11, 65],
    [2, 14, 14, 48],
    [1, 28, 31, 16],
    [0, 3, 3, 2],
  ].flatMap(([batch, height, width, channels]) => {
    const shapes = [
      [batch, height, width, channels],
      [channels, 1, 3, 3],
    ];
    return [{ inputs: of(...shapes, [channels]) }, { inputs: [...of(...shapes), null] }];
  }),
  dtypes: FLOATS,
  parameters: [1, 2],
  tolerance: { terms: () => 40, ulp: 4 },
  errors: [
    { what: "a matrix", call: () => ops.depthwiseSilu(x(), ops.ones([3, 1, 3, 3])), error: ShapeError },
    {
      what: "a kernel of another size",
      call: () => ops.depthwiseSilu(ops.ones([1, 4, 4, 2]), ops.ones([2, 1, 5, 5])),
      error: ShapeError,
    },
    {
      what: "a kernel of other channels",
      call: () => ops.depthwiseSilu(ops.ones([1, 4, 4, 2]), ops.ones([4, 1, 3, 3])),
      error: ShapeError,
    },
    {
      what: "an image without channels",
      call: () => ops.depthwiseSilu(ops.ones([1, 4, 4, 0]), ops.ones([0, 1, 3, 3])),
      error: ShapeError,
    },
    {
      what: "a bias of another size",
      call: () => ops.depthwiseSilu(ops.ones([1, 4, 4, 2]), ops.ones([2, 1, 3, 3]), ops.ones([1])),
      error: ShapeError,
    },
    {
      what: "dtypes",
      call: () => ops.depthwiseSilu(ops.ones([1, 4, 4, 2]), ops.ones([2, 1, 3, 3], { dtype: "float64" })),
      error: DTypeError,
    },
  ],
});

interface PoolOptions {
  kernel: Pair;
  stride?: Pair;
  padding?: Pair;
}
/** Windows of a pooling op: `reduce` sees those pixels of each that lie within the image. */
function poolOf(
  x: NdArray,
  options: PoolOptions,
  reduce: (values: number[], area: number) => number,
): NdArray {
  const kernel = pair(options.kernel);
  const [stride, padding] = [pair(options.stride ?? kernel), pair(options.padding ?? 0)];
  const [batch, height, width, channels] = x.shape;
  const out = [height, width].map((n, k) => Math.floor((n + 2 * padding[k] - kernel[k]) / stride[k]) + 1);
  return build([batch, ...out, channels], ([b, i, j, c]) => {
    const values: number[] = [];
    for (let r = 0; r < kernel[0]; r++)
      for (let s = 0; s < kernel[1]; s++) {
        const [y, z] = [i * stride[0] - padding[0] + r, j * stride[1] - padding[1] + s];
        if (y >= 0 && y < height && z >= 0 && z < width) values.push(at(x, b, y, z, c));
      }
    return reduce(values, kernel[0] * kernel[1]);
  });
}
const total = (values: number[]) => values.reduce((sum, v) => sum + v, 0);
const POOLS: readonly [shape: readonly number[], options: PoolOptions][] = [
  [[1, 1, 1, 1], { kernel: 1 }],
  [[1, 4, 4, 1], { kernel: 2 }],
  [[1, 4, 4, 2], { kernel: 2, stride: 1 }],
  [[1, 5, 4, 2], { kernel: 3, stride: 2, padding: 1 }],
  [[1, 3, 5, 2], { kernel: [2, 3], stride: [1, 2], padding: [1, 0] }],
  [[2, 3, 3, 2], { kernel: 3, stride: 1, padding: 1 }],
  [[1, 6, 6, 1], { kernel: 2, stride: 3 }],
  [[1, 5, 7, 1], { kernel: [5, 7] }],
  [[2, 7, 9, 33], { kernel: 3, stride: 2, padding: 1 }],
  [[1, 13, 11, 65], { kernel: [4, 2], stride: [2, 1], padding: [2, 1] }],
  [[1, 33, 31, 3], { kernel: 2 }],
  [[0, 4, 4, 1], { kernel: 2 }],
  [[1, 4, 4, 0], { kernel: 2 }],
];
const poolErrors = (op: "avgPool" | "maxPool"): OpRow["errors"] => [
  {
    what: "rank 3",
    call: () => ops[op](ops.ones([4, 4, 1]), { kernel: 2 }),
    error: ShapeError,
  },
  {
    what: "a kernel larger than the image",
    call: () => ops[op](ops.ones([1, 2, 2, 1]), { kernel: 3 }),
    error: ShapeError,
  },
  {
    what: "padding past half of the kernel",
    call: () => ops[op](ops.ones([1, 4, 4, 1]), { kernel: 2, padding: 2 }),
    error: ShapeError,
  },
  {
    what: "no kernel",
    call: () => ops[op](ops.ones([1, 4, 4, 1]), {} as never),
    error: ArgumentError,
  },
  {
    what: "no options",
    call: () => ops[op](ops.ones([1, 4, 4, 1]), undefined as never),
    error: ArgumentError,
  },
  {
    what: "stride 0",
    call: () => ops[op](ops.ones([1, 4, 4, 1]), { kernel: 2, stride: 0 }),
    error: ArgumentError,
  },
  {
    what: "a fraction",
    call: () => ops[op](ops.ones([1, 4, 4, 1]), { kernel: 1.5 }),
    error: ArgumentError,
  },
  {
    what: "an unknown option",
    call: () => ops[op](ops.ones([1, 4, 4, 1]), { kernel: 2, size: 2 } as never),
    error: ArgumentError,
  },
];
const avgPool = row<[PoolOptions]>({
  op: "avgPool",
  reference: ([x], options) => poolOf(x, options, (values, area) => total(values) / area),
  cases: POOLS.map(([shape, options]) => ({
    inputs: [{ shape }],
    extra: [options],
  })),
  dtypes: FLOATS,
  // two more roundings for the products with rounded weights
  tolerance: {
    ulp: 1,
    terms: (_, { kernel }: PoolOptions) => pair(kernel)[0] * pair(kernel)[1] + 2,
  },
  errors: poolErrors("avgPool"),
});
const maxPool = row<[PoolOptions]>({
  op: "maxPool",
  reference: ([x], options) => poolOf(x, options, (values) => Math.max(...values)),
  cases: POOLS.map(([shape, options]) => ({
    inputs: [{ shape, domain: "distinct" }],
    extra: [options],
  })),
  dtypes: FLOATS,
  errors: poolErrors("maxPool"),
});

function cellMeans(x: NdArray, out: [number, number]): NdArray {
  const [batch, height, width, channels] = x.shape;
  return build([batch, ...out, channels], ([b, i, j, c]) => {
    const values: number[] = [];
    for (let y = Math.floor((i * height) / out[0]); y < Math.ceil(((i + 1) * height) / out[0]); y++)
      for (let z = Math.floor((j * width) / out[1]); z < Math.ceil(((j + 1) * width) / out[1]); z++)
        values.push(at(x, b, y, z, c));
    return total(values) / values.length;
  });
}
const adaptiveAvgPool2d = row<[size: Pair]>({
  op: "adaptiveAvgPool2d",
  reference: ([x], size) => cellMeans(x, pair(size)),
  cases: (
    [
      [[1, 1, 1, 1], 1],
      [[1, 4, 4, 2], 2],
      [[1, 5, 3, 2], 2],
      [
        [1, 5, 4, 1],
        [3, 2],
      ],
      [[1, 3, 3, 1], 5],
      [
        [2, 2, 3, 2],
        [1, 4],
      ],
      [[2, 7, 7, 33], 1],
      [
        [1, 14, 13, 65],
        [7, 5],
      ],
      [[1, 8, 8, 3], 8],
      [
        [2, 31, 33, 4],
        [2, 2],
      ],
      [[0, 3, 3, 2], 2],
      [[1, 3, 3, 0], 2],
    ] as [number[], Pair][]
  ).map(([shape, size]): Case<[Pair]> => ({ inputs: [{ shape }], extra: [size] })),
  dtypes: FLOATS,
  tolerance: {
    ulp: 1,
    terms: ([[, height, width]]) => Math.max(4, height * width),
  },
  errors: [
    {
      what: "rank 3",
      call: () => ops.adaptiveAvgPool2d(ops.ones([4, 4, 1]), 2),
      error: ShapeError,
    },
    {
      what: "an empty image",
      call: () => ops.adaptiveAvgPool2d(ops.ones([1, 0, 4, 1]), 2),
      error: ShapeError,
    },
    {
      what: "size 0",
      call: () => ops.adaptiveAvgPool2d(ops.ones([1, 4, 4, 1]), 0),
      error: ArgumentError,
    },
    {
      what: "no size",
      call: () => ops.adaptiveAvgPool2d(ops.ones([1, 4, 4, 1]), undefined as never),
      error: ArgumentError,
    },
    {
      what: "a size past the largest",
      call: () => ops.adaptiveAvgPool2d(ops.ones([1, 4, 4, 1]), 2 ** 31),
      error: ArgumentError,
    },
    {
      what: "a size that no image has",
      call: () => ops.adaptiveAvgPool2d(ops.ones([1, 4, 4, 1]), 2 ** 31 - 1),
      error: ShapeError,
    },
  ],
});

interface InterpolateOptions {
  size: Pair;
  mode?: "nearest" | "bilinear";
}
/** The source positions of an output position, with weights. */
function sources(i: number, n: number, out: number, mode: string): [number, number][] {
  if (mode === "nearest") return [[Math.floor((i * n) / out), 1]];
  const source = Math.min(n - 1, Math.max(0, ((i + 0.5) * n) / out - 0.5));
  const low = Math.floor(source);
  return [
    [low, 1 - (source - low)],
    [Math.min(n - 1, low + 1), source - low],
  ];
}
function interpolated(x: NdArray, out: [number, number], mode: "nearest" | "bilinear"): NdArray {
  const [batch, height, width, channels] = x.shape;
  return build([batch, ...out, channels], ([b, i, j, c]) => {
    let sum = 0;
    for (const [y, p] of sources(i, height, out[0], mode))
      for (const [z, q] of sources(j, width, out[1], mode)) sum += p * q * at(x, b, y, z, c);
    return sum;
  });
}
/** [second half of the channels, quadrant means of the first half, stretched] */
const quadrantContext = row<[]>({
  op: "quadrantContext",
  reference: ([x]) => {
    const [batch, height, width, channels] = x.shape;
    const half = channels / 2;
    const local = build([batch, height, width, half], ([b, y, z, c]) => at(x, b, y, z, c));
    const context = interpolated(cellMeans(local, [2, 2]), [height, width], "bilinear");
    return build(x.shape, ([b, y, z, c]) =>
      c < half ? at(x, b, y, z, half + c) : at(context, b, y, z, c - half),
    );
  },
  cases: [
    [1, 1, 1, 2],
    [1, 2, 2, 2],
    [2, 4, 4, 2],
    [1, 4, 8, 6],
    [3, 8, 4, 16],
    [1, 3, 5, 2],
    [2, 12, 8, 24],
    [1, 16, 28, 34],
    [1, 56, 56, 4],
    [0, 4, 4, 2],
  ].map((shape) => ({ inputs: [{ shape }] })),
  dtypes: FLOATS,
  tolerance: { ofLargest: 2 },
  errors: [
    { what: "a matrix", call: () => ops.quadrantContext(x()), error: ShapeError },
    {
      what: "an odd number of channels",
      call: () => ops.quadrantContext(ops.ones([1, 4, 4, 3])),
      error: ShapeError,
    },
    { what: "an empty image", call: () => ops.quadrantContext(ops.ones([1, 0, 4, 2])), error: ShapeError },
    { what: "a number", call: () => ops.quadrantContext(1 as never), error: ArgumentError },
    { what: "nothing", call: () => ops.quadrantContext(undefined as never), error: ArgumentError },
  ],
});

const interpolate = row<[InterpolateOptions]>({
  op: "interpolate",
  reference: ([x], { size, mode = "nearest" }) => interpolated(x, pair(size), mode),
  cases: (
    [
      [[1, 1, 1, 1], 3],
      [[1, 2, 2, 1], 4],
      [
        [1, 2, 3, 2],
        [3, 2],
      ],
      [[1, 4, 4, 2], 2],
      [
        [1, 3, 5, 1],
        [7, 4],
      ],
      [[2, 3, 3, 2], 3],
      [
        [1, 7, 9, 33],
        [13, 5],
      ],
      [[1, 14, 14, 3], 31],
      [
        [2, 33, 31, 2],
        [16, 8],
      ],
      [[0, 3, 3, 2], 2],
      [[1, 3, 3, 0], 2],
    ] as [number[], Pair][]
  ).flatMap(([shape, size]): Case<[InterpolateOptions]>[] => [
    { inputs: [{ shape }], extra: [{ size }] },
    { inputs: [{ shape }], extra: [{ size, mode: "nearest" }] },
    { inputs: [{ shape }], extra: [{ size, mode: "bilinear" }] },
  ]),
  dtypes: FLOATS,
  tolerance: { terms: () => 8 },
  errors: [
    {
      what: "rank 3",
      call: () => ops.interpolate(ops.ones([4, 4, 1]), { size: 2 }),
      error: ShapeError,
    },
    {
      what: "an empty image",
      call: () => ops.interpolate(ops.ones([1, 4, 0, 1]), { size: 2 }),
      error: ShapeError,
    },
    {
      what: "size 0",
      call: () => ops.interpolate(ops.ones([1, 4, 4, 1]), { size: 0 }),
      error: ArgumentError,
    },
    {
      what: "no options",
      call: () => ops.interpolate(ops.ones([1, 4, 4, 1]), undefined as never),
      error: ArgumentError,
    },
    {
      what: "a mode of another name",
      call: () =>
        ops.interpolate(ops.ones([1, 4, 4, 1]), {
          size: 2,
          mode: "bicubic" as never,
        }),
      error: ArgumentError,
    },
    {
      what: "an unknown option",
      call: () =>
        ops.interpolate(ops.ones([1, 4, 4, 1]), {
          size: 2,
          alignCorners: true,
        } as never),
      error: ArgumentError,
    },
  ],
});

export const products: OpRow[] = [
  matmul,
  linear,
  geluLinear,
  groupedLinear,
  conv2d,
  depthwiseSilu,
  avgPool,
  maxPool,
  adaptiveAvgPool2d,
  interpolate,
  quadrantContext,
];
