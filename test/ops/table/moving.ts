import { ArgumentError, DTypeError, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import { build, count, eachIndex, fold, front, type NdArray, nd, place } from "../../helpers/nd.js";
import { ALL, type Case, type InputSpec, type OpRow, row, SHAPES } from "./row.js";

const x = () => ops.ones([2, 3]);
const of = (...shapes: readonly (readonly number[])[]): InputSpec[] => shapes.map((shape) => ({ shape }));

const reshape = row<[shape: readonly number[]]>({
  op: "reshape",
  reference: ([x], shape) => {
    const rest = count(shape.filter((dim) => dim !== -1));
    return nd(
      shape.map((dim) => (dim === -1 ? x.data.length / rest : dim)),
      x.data,
    );
  },
  cases: (
    [
      [[], []],
      [[], [1, 1]],
      [[1], []],
      [[6], [2, 3]],
      [[2, 3], [6]],
      [[2, 3], [-1]],
      [
        [2, 3, 4],
        [4, -1],
      ],
      [
        [2, 3, 4],
        [1, 2, 1, 3, 1, 4],
      ],
      [[0], [3, 0]],
      [[2, 0], [0]],
      [
        [0, 3],
        [-1, 3],
      ],
      [[127], [1, -1, 1]],
      [
        [5, 7, 31],
        [31, 35],
      ],
    ] as [number[], number[]][]
  ).map(([from, to]): Case<[number[]]> => ({ inputs: of(from), extra: [to] })),
  dtypes: ALL,
  errors: [
    {
      what: "another number of elements",
      call: () => ops.reshape(x(), [5]),
      error: ShapeError,
    },
    {
      what: "-1 twice",
      call: () => ops.reshape(x(), [-1, -1]),
      error: ShapeError,
    },
    {
      what: "-1 without an answer",
      call: () => ops.reshape(x(), [4, -1]),
      error: ShapeError,
    },
    {
      what: "-1 beside 0",
      call: () => ops.reshape(ops.ones([0]), [0, -1]),
      error: ShapeError,
    },
    {
      what: "7 dimensions",
      call: () => ops.reshape(x(), [1, 1, 1, 1, 1, 2, 3]),
      error: ShapeError,
    },
    {
      what: "a number for a shape",
      call: () => ops.reshape(x(), 6 as never),
      error: ShapeError,
    },
    {
      what: "a fraction",
      call: () => ops.reshape(x(), [1.5, 4]),
      error: ShapeError,
    },
    {
      what: "no tensor",
      call: () => ops.reshape(null as never, [1]),
      error: ArgumentError,
    },
  ],
});

function permuteOf(x: NdArray, order: readonly number[]): NdArray {
  const axes = order.map((axis) => front(axis, x.shape.length));
  const out = nd(axes.map((axis) => x.shape[axis]));
  eachIndex(x.shape, (index, flat) => {
    out.data[
      place(
        out.shape,
        axes.map((axis) => index[axis]),
      )
    ] = x.data[flat];
  });
  return out;
}
const ORDERS: [number[], number[]][] = [
  [[], []],
  [[7], [0]],
  [
    [2, 3],
    [1, 0],
  ],
  [
    [2, 3],
    [0, 1],
  ],
  [
    [31, 33],
    [1, 0],
  ],
  [
    [65, 127],
    [-1, -2],
  ],
  [
    [2, 3, 4],
    [2, 0, 1],
  ],
  [
    [2, 3, 4],
    [1, 2, 0],
  ],
  [
    [5, 16, 33],
    [0, 2, 1],
  ],
  [
    [4, 31, 7],
    [1, 0, 2],
  ],
  [
    [2, 3, 2, 3],
    [3, 1, 2, 0],
  ],
  [
    [2, 9, 8, 7],
    [0, 3, 1, 2],
  ],
  [
    [2, 1, 2, 1, 3],
    [4, 0, 3, 1, 2],
  ],
  [
    [1, 2, 2, 1, 2, 3],
    [5, 4, 3, 2, 1, 0],
  ],
  [
    [0, 3],
    [1, 0],
  ],
  [
    [2, 0, 3],
    [2, 1, 0],
  ],
];
const permute = row<[order: readonly number[]]>({
  op: "permute",
  reference: ([x], order) => permuteOf(x, order),
  cases: ORDERS.map(([shape, order]) => ({
    inputs: of(shape),
    extra: [order],
  })),
  dtypes: ALL,
  errors: [
    {
      what: "an axis twice",
      call: () => ops.permute(x(), [0, 0]),
      error: ShapeError,
    },
    {
      what: "too few axes",
      call: () => ops.permute(x(), [0]),
      error: ShapeError,
    },
    {
      what: "an axis past the end",
      call: () => ops.permute(x(), [0, 2]),
      error: ShapeError,
    },
    {
      what: "no order",
      call: () => ops.permute(x(), undefined as never),
      error: ShapeError,
    },
    {
      what: "no tensor",
      call: () => ops.permute(1 as never, [0]),
      error: ArgumentError,
    },
  ],
});

const transpose = row<[a?: number, b?: number]>({
  op: "transpose",
  reference: ([x], a = -2, b = -1) => {
    const order = x.shape.map((_, axis) => axis);
    const [first, second] = [front(a, order.length), front(b, order.length)];
    order[first] = second;
    order[second] = first;
    return permuteOf(x, order);
  },
  cases: [
    ...SHAPES.filter((shape) => shape.length >= 2).flatMap((shape): Case<[number?, number?]>[] => [
      { inputs: of(shape) },
      { inputs: of(shape), extra: [0, -1] },
    ]),
    { inputs: of([7]), extra: [0, 0] },
    { inputs: of([2, 3, 4]), extra: [1, 0] },
  ],
  dtypes: ALL,
  errors: [
    {
      what: "a vector",
      call: () => ops.transpose(ops.ones([3])),
      error: ShapeError,
    },
    {
      what: "an axis past the end",
      call: () => ops.transpose(x(), 0, 2),
      error: ShapeError,
    },
    {
      what: "no tensor",
      call: () => ops.transpose("x" as never),
      error: ArgumentError,
    },
  ],
});

const BROADCASTS: [number[], number[]][] = [
  [[], []],
  [[], [3]],
  [[], [2, 3]],
  [[1], [5]],
  [[3], [2, 3]],
  [
    [2, 1],
    [2, 3],
  ],
  [
    [1, 3],
    [2, 3],
  ],
  [
    [2, 3],
    [2, 3],
  ],
  [
    [2, 1, 3],
    [4, 2, 5, 3],
  ],
  [
    [1, 1, 2, 1],
    [2, 1, 2, 3, 2, 2],
  ],
  [[1], [0]],
  [
    [1, 3],
    [0, 3],
  ],
  [[0], [2, 0]],
  [
    [33, 1],
    [33, 31],
  ],
  [[127], [5, 127]],
  [
    [1, 7, 1, 9],
    [3, 7, 5, 9],
  ],
];
const expand = row<[shape: readonly number[]]>({
  op: "expand",
  reference: ([x], shape) =>
    build(shape, (index) => {
      const lead = shape.length - x.shape.length;
      return x.data[
        place(
          x.shape,
          x.shape.map((dim, axis) => (dim === 1 ? 0 : index[lead + axis])),
        )
      ];
    }),
  cases: BROADCASTS.map(([from, to]) => ({ inputs: of(from), extra: [to] })),
  dtypes: ALL,
  errors: [
    {
      what: "a smaller shape",
      call: () => ops.expand(x(), [3]),
      error: ShapeError,
    },
    {
      what: "another dimension",
      call: () => ops.expand(x(), [4, 3]),
      error: ShapeError,
    },
    {
      what: "no shape",
      call: () => ops.expand(x(), undefined as never),
      error: ShapeError,
    },
    {
      what: "no tensor",
      call: () => ops.expand({} as never, [1]),
      error: ArgumentError,
    },
  ],
});
const sumTo = row<[shape: readonly number[]]>({
  op: "sumTo",
  reference: ([x], shape) => {
    const lead = x.shape.length - shape.length;
    const axes = x.shape.flatMap((_, axis) => (axis < lead || shape[axis - lead] === 1 ? [axis] : []));
    return nd(shape, fold(x, axes, true, (values) => values.reduce((a, b) => a + b, 0)).data);
  },
  cases: BROADCASTS.map(([to, from]) => ({ inputs: of(from), extra: [to] })),
  // integers would change their dtype, as sums do
  dtypes: ["float32", "float64"],
  refusesDTypes: false,
  tolerance: { terms: ([shape]) => Math.max(1, count(shape)) },
  errors: [
    {
      what: "a shape that does not broadcast",
      call: () => ops.sumTo(x(), [2]),
      error: ShapeError,
    },
    {
      what: "a larger shape",
      call: () => ops.sumTo(ops.ones([1]), [2, 2]),
      error: ShapeError,
    },
    {
      what: "no shape",
      call: () => ops.sumTo(x(), undefined as never),
      error: ShapeError,
    },
    {
      what: "no tensor",
      call: () => ops.sumTo(1 as never, []),
      error: ArgumentError,
    },
  ],
});

const concat = row<[axis?: number]>({
  op: "concat",
  reference: (inputs, axis = 0) => {
    const k = front(axis, inputs[0].shape.length);
    const shape = inputs[0].shape.with(
      k,
      inputs.reduce((sum, x) => sum + x.shape[k], 0),
    );
    const out = nd(shape);
    let start = 0;
    for (const x of inputs) {
      eachIndex(x.shape, (index, flat) => {
        out.data[place(shape, index.with(k, index[k] + start))] = x.data[flat];
      });
      start += x.shape[k];
    }
    return out;
  },
  args: (inputs, extra) => [inputs, ...extra],
  cases: [
    { inputs: of([3]) },
    { inputs: of([2], [3]) },
    { inputs: of([1], [0], [7]) },
    { inputs: of([0], [0]) },
    { inputs: of([2, 3], [1, 3]) },
    { inputs: of([2, 3], [2, 1], [2, 2]), extra: [1] },
    { inputs: of([2, 3], [2, 4]), extra: [-1] },
    { inputs: of([2, 1, 3], [2, 2, 3]), extra: [1] },
    { inputs: of([1, 2, 1, 2, 1, 2], [1, 2, 1, 2, 2, 2]), extra: [4] },
    { inputs: of([31, 33], [1, 33], [65, 33]) },
    { inputs: of([7, 31], [7, 33], [7, 1]), extra: [1] },
    { inputs: of([5, 2, 17], [5, 3, 17]), extra: [1] },
    { inputs: of([0, 3], [2, 3]) },
    { inputs: of([2, 0], [2, 0]), extra: [0] },
    { inputs: of(...Array.from({ length: 20 }, () => [2])) },
  ],
  dtypes: ALL,
  method: false,
  errors: [
    { what: "nothing", call: () => ops.concat([]), error: ArgumentError },
    {
      what: "a tensor",
      call: () => ops.concat(x() as never),
      error: ArgumentError,
    },
    {
      what: "scalars",
      call: () => ops.concat([ops.ones([]), ops.ones([])]),
      error: ShapeError,
    },
    {
      what: "ranks",
      call: () => ops.concat([x(), ops.ones([3])]),
      error: ShapeError,
    },
    {
      what: "shapes off the axis",
      call: () => ops.concat([x(), ops.ones([2, 4])]),
      error: ShapeError,
    },
    {
      what: "dtypes",
      call: () => ops.concat([x(), ops.ones([2, 3], { dtype: "int32" })]),
      error: DTypeError,
    },
    {
      what: "something else among them",
      call: () => ops.concat([x(), 3 as never]),
      error: ArgumentError,
    },
    {
      what: "axis past the end",
      call: () => ops.concat([x(), x()], 2),
      error: ShapeError,
    },
  ],
});

/** Positions that a slice takes, as Array.prototype.slice would. */
function taken(dim: number, start = 0, end?: number | null, step = 1): number[] {
  return Array.from({ length: dim }, (_, k) => k)
    .slice(start, end ?? dim)
    .filter((_, k) => k % step === 0);
}
export function select(x: NdArray, axis: number, positions: readonly number[]): NdArray {
  const k = front(axis, x.shape.length);
  return build(
    x.shape.with(k, positions.length),
    (index) => x.data[place(x.shape, index.with(k, positions[index[k]]))],
  );
}
type SliceExtra = [axis: number, start?: number, end?: number | null, step?: number];
const slice = row<SliceExtra>({
  op: "slice",
  reference: ([x], axis, ...rest) => select(x, axis, taken(x.shape[front(axis, x.shape.length)], ...rest)),
  cases: (
    [
      [[7], 0],
      [[7], 0, 2],
      [[7], 0, 2, 5],
      [[7], 0, -3],
      [[7], 0, 1, -1],
      [[7], 0, 0, null, 2],
      [[7], 0, 1, 7, 3],
      [[7], 0, 5, 2],
      [[7], 0, -100, 100],
      [[7], 0, 7],
      [[7], 0, 0, 0],
      [[1], 0, 0, 1, 5],
      [[2, 6], 1, 1, 5, 2],
      [[6, 2], 0, 1, 5, 2],
      [[2, 6], -1, -2],
      [[2, 3, 4], 1, 1],
      [[2, 3, 4], 0, 1],
      [[1, 2, 1, 2, 1, 4], 5, 1, 3],
      [[31, 33], 0, 3, 30],
      [[31, 33], 1, 1, 33, 7],
      [[127], 0, 1, 127, 2],
      [[0], 0],
      [[0, 3], 1, 1],
      [[3, 0], 0, 1, 2],
    ] as [number[], ...SliceExtra][]
  ).map(([shape, ...extra]) => ({ inputs: of(shape), extra })),
  dtypes: ALL,
  errors: [
    {
      what: "a scalar",
      call: () => ops.slice(ops.ones([]), 0),
      error: ShapeError,
    },
    {
      what: "axis past the end",
      call: () => ops.slice(x(), 2),
      error: ShapeError,
    },
    {
      what: "step 0",
      call: () => ops.slice(x(), 0, 0, 2, 0),
      error: ArgumentError,
    },
    {
      what: "a negative step",
      call: () => ops.slice(x(), 0, 0, 2, -1),
      error: ArgumentError,
    },
    {
      what: "a fraction",
      call: () => ops.slice(x(), 0, 0.5),
      error: ArgumentError,
    },
    {
      what: "NaN",
      call: () => ops.slice(x(), 0, Number.NaN),
      error: ArgumentError,
    },
    {
      what: "no tensor",
      call: () => ops.slice(1 as never, 0),
      error: ArgumentError,
    },
  ],
});

const split = row<[parts: number | readonly number[], axis?: number]>({
  op: "split",
  reference: ([x], parts, axis = 0) => {
    const dim = x.shape[front(axis, x.shape.length)];
    const sizes = typeof parts === "number" ? new Array<number>(parts).fill(dim / parts) : parts;
    let start = 0;
    return sizes.map((n) => {
      start += n;
      return select(
        x,
        axis,
        Array.from({ length: n }, (_, k) => start - n + k),
      );
    });
  },
  cases: [
    { inputs: of([6]), extra: [3] },
    { inputs: of([6]), extra: [1] },
    { inputs: of([6]), extra: [[1, 5]] },
    { inputs: of([6]), extra: [[6, 0]] },
    { inputs: of([2, 6]), extra: [2, 1] },
    { inputs: of([2, 6]), extra: [[1, 2, 3], -1] },
    { inputs: of([4, 3]), extra: [[3, 1]] },
    { inputs: of([2, 2, 3]), extra: [2, 1] },
    { inputs: of([33, 7]), extra: [[1, 31, 1]] },
    { inputs: of([7, 66]), extra: [2, 1] },
    { inputs: of([0]), extra: [2] },
    { inputs: of([0]), extra: [[]], gradcheck: false },
  ],
  dtypes: ALL,
  errors: [
    {
      what: "pieces of different size",
      call: () => ops.split(x(), 2, 1),
      error: ShapeError,
    },
    {
      what: "sizes that do not add up",
      call: () => ops.split(x(), [1, 1], 1),
      error: ShapeError,
    },
    { what: "no pieces", call: () => ops.split(x(), 0), error: ArgumentError },
    {
      what: "a negative size",
      call: () => ops.split(x(), [3, -1]),
      error: ArgumentError,
    },
    {
      what: "a scalar",
      call: () => ops.split(ops.ones([]), 1),
      error: ShapeError,
    },
    {
      what: "no parts",
      call: () => ops.split(x(), undefined as never),
      error: ArgumentError,
    },
  ],
});

type Widths = readonly (readonly [number, number])[];
const pad = row<[widths: Widths, value?: number]>({
  op: "pad",
  reference: ([x], widths, value = 0) => {
    const shape = x.shape.map((dim, k) => dim + widths[k][0] + widths[k][1]);
    const out = nd(shape, new Float64Array(count(shape)).fill(value));
    eachIndex(x.shape, (index, flat) => {
      out.data[
        place(
          shape,
          index.map((i, k) => i + widths[k][0]),
        )
      ] = x.data[flat];
    });
    return out;
  },
  cases: (
    [
      [[], []],
      [[3], [[1, 2]]],
      [[3], [[0, 0]]],
      [[3], [[0, 1]], 1],
      [
        [2, 3],
        [
          [1, 0],
          [0, 2],
        ],
      ],
      [
        [2, 3],
        [
          [2, 2],
          [1, 1],
        ],
        1,
      ],
      [
        [1, 2, 2, 1],
        [
          [0, 0],
          [1, 1],
          [1, 2],
          [0, 0],
        ],
      ],
      [
        [1, 2, 1, 2, 1, 2],
        [
          [0, 0],
          [1, 0],
          [0, 0],
          [0, 1],
          [1, 1],
          [0, 0],
        ],
      ],
      [[0], [[2, 1]], 1],
      [
        [0, 3],
        [
          [1, 0],
          [0, 0],
        ],
      ],
      [
        [2, 0],
        [
          [0, 0],
          [0, 0],
        ],
      ],
      [
        [31, 33],
        [
          [1, 0],
          [0, 31],
        ],
      ],
      [
        [2, 7, 7, 33],
        [
          [0, 0],
          [0, 1],
          [0, 1],
          [0, 0],
        ],
      ],
    ] as [number[], Widths, number?][]
  ).map(([shape, ...extra]) => ({ inputs: of(shape), extra })),
  dtypes: ALL,
  errors: [
    {
      what: "too few pairs",
      call: () => ops.pad(x(), [[1, 1]]),
      error: ShapeError,
    },
    {
      what: "a negative width",
      call: () =>
        ops.pad(x(), [
          [-1, 0],
          [0, 0],
        ]),
      error: ArgumentError,
    },
    {
      what: "a width of 2^40",
      call: () =>
        ops.pad(x(), [
          [2 ** 40, 0],
          [0, 0],
        ]),
      error: ArgumentError,
    },
    {
      what: "a result past the largest",
      call: () =>
        ops.pad(x(), [
          [2 ** 30, 0],
          [2 ** 30, 0],
        ]),
      error: ShapeError,
    },
    {
      what: "no widths",
      call: () => ops.pad(x(), undefined as never),
      error: ShapeError,
    },
    {
      what: "NaN as value",
      call: () =>
        ops.pad(
          x(),
          [
            [0, 0],
            [0, 0],
          ],
          Number.NaN,
        ),
      error: ArgumentError,
    },
  ],
});

const flip = row<[axes?: number | readonly number[] | null]>({
  op: "flip",
  reference: ([x], axes) => {
    const rank = x.shape.length;
    const named =
      axes === undefined || axes === null
        ? x.shape.map((_, k) => k)
        : typeof axes === "number"
          ? [axes]
          : axes;
    const flipped = new Set(named.map((axis) => front(axis, rank)));
    return build(
      x.shape,
      (index) =>
        x.data[
          place(
            x.shape,
            index.map((i, k) => (flipped.has(k) ? x.shape[k] - 1 - i : i)),
          )
        ],
    );
  },
  cases: [
    ...SHAPES.flatMap((shape): Case<[(number | null)?]>[] => [
      { inputs: of(shape) },
      { inputs: of(shape), extra: [null] },
      ...shape.map(
        (_, axis): Case<[number]> => ({
          inputs: of(shape),
          extra: [axis - (axis % 2) * shape.length],
        }),
      ),
    ]),
    { inputs: of([2, 3, 4]), extra: [[0, 2]] },
    { inputs: of([2, 3, 4]), extra: [[]] },
    { inputs: of([2, 3, 4]), extra: [[-1, 0]] },
  ],
  dtypes: ALL,
  errors: [
    {
      what: "axis past the end",
      call: () => ops.flip(x(), 2),
      error: ShapeError,
    },
    {
      what: "an axis twice",
      call: () => ops.flip(x(), [1, -1]),
      error: ShapeError,
    },
    {
      what: "no tensor",
      call: () => ops.flip([1] as never),
      error: ArgumentError,
    },
  ],
});

const roll = row<[shifts: number | readonly number[], axes: number | readonly number[]]>({
  op: "roll",
  reference: ([x], shifts, axes) => {
    const shiftList = typeof shifts === "number" ? [shifts] : shifts;
    const axisList = typeof axes === "number" ? [axes] : axes;
    const shift = x.shape.map(() => 0);
    axisList.forEach((axis, k) => {
      shift[front(axis, x.shape.length)] += shiftList[k];
    });
    return build(
      x.shape,
      (index) =>
        x.data[
          place(
            x.shape,
            index.map((i, k) => (((i - shift[k]) % x.shape[k]) + x.shape[k]) % x.shape[k]),
          )
        ],
    );
  },
  cases: (
    [
      [[7], 1, 0],
      [[7], -2, 0],
      [[7], 0, 0],
      [[7], 7, 0],
      [[7], 23, 0],
      [[7], -23, 0],
      [[1], 5, 0],
      [[2, 5], 2, 1],
      [[2, 5], 1, 0],
      [
        [3, 4],
        [1, -1],
        [0, 1],
      ],
      [
        [3, 4],
        [1, 1],
        [0, 0],
      ],
      [[3, 4], [], []],
      [
        [1, 4, 4, 2],
        [-1, 1],
        [1, 2],
      ],
      [[2, 1, 2, 1, 2, 2], 1, -1],
      [
        [31, 33],
        [7, 5],
        [0, 1],
      ],
      [[0], 1, 0],
      [[0, 3], 1, 1],
    ] as [number[], number | number[], number | number[]][]
  ).map(([shape, ...extra]) => ({ inputs: of(shape), extra })),
  dtypes: ALL,
  errors: [
    {
      what: "shifts and axes",
      call: () => ops.roll(x(), [1, 2], 0),
      error: ArgumentError,
    },
    {
      what: "a fraction",
      call: () => ops.roll(x(), 0.5, 0),
      error: ArgumentError,
    },
    {
      what: "axis past the end",
      call: () => ops.roll(x(), 1, 2),
      error: ShapeError,
    },
    {
      what: "no axes",
      call: () => ops.roll(x(), 1, undefined as never),
      error: ShapeError,
    },
  ],
});

export const moving: OpRow[] = [
  reshape,
  permute,
  transpose,
  expand,
  sumTo,
  concat,
  slice,
  split,
  pad,
  flip,
  roll,
];
