/** Ops that take and put elements by index. */
import { ArgumentError, DTypeError, IndexError, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import { build, eachIndex, front, nd, place } from "../../helpers/nd.js";
import { select } from "./moving.js";
import { ALL, type Case, type Domain, type InputSpec, NUMBERS, type OpRow, row } from "./row.js";

const x = () => ops.ones([2, 3]);

const below =
  (n: number): Domain =>
  (random) =>
    random.integer(0, n - 1);
const index = (shape: readonly number[], n: number, dtype: "int32" | "int64" = "int64"): InputSpec => ({
  shape,
  dtype,
  domain: below(n),
});
const INDEXED: [x: number[], axis: number, index: number[]][] = [
  [[5], 0, [3]],
  [[5], 0, [9]],
  [[5], -1, [0]],
  [[3, 4], 0, [2, 4]],
  [[3, 4], 1, [3, 6]],
  [[3, 4], -1, [2, 1]],
  [[3, 4], 0, [7, 2]],
  [[2, 3, 4], 1, [2, 5, 4]],
  [[2, 3, 4], 1, [1, 2, 3]],
  [[2, 1, 2, 1, 2, 3], 5, [2, 1, 2, 1, 2, 2]],
  [[31, 33], 0, [65, 33]],
  [[31, 33], 1, [31, 127]],
  [[4, 7, 33], 1, [4, 9, 31]],
  [[1], 0, [257]],
  [[3, 0], 0, [2, 0]],
  [[2, 3], 1, [0, 3]],
];
const gather = row<[axis: number]>({
  op: "gather",
  reference: ([x, index], axis) => {
    const k = front(axis, x.shape.length);
    return build(index.shape, (where, flat) => x.data[place(x.shape, where.with(k, index.data[flat]))]);
  },
  args: ([x, index], [axis]) => [x, axis, index],
  cases: INDEXED.flatMap(([shape, axis, indexShape]): Case<[number]>[] =>
    (["int32", "int64"] as const).map((dtype) => ({
      inputs: [{ shape }, index(indexShape, shape[front(axis, shape.length)], dtype)],
      extra: [axis],
    })),
  ),
  dtypes: ALL,
  errors: [
    {
      what: "an index too large",
      call: () => ops.gather(x(), 1, ops.full([2, 3], 3, { dtype: "int64" })),
      error: IndexError,
    },
    {
      what: "a negative index",
      call: () => ops.gather(x(), 1, ops.full([2, 3], -1, { dtype: "int32" })),
      error: IndexError,
    },
    {
      what: "a float index",
      call: () => ops.gather(x(), 1, ops.zeros([2, 3])),
      error: DTypeError,
    },
    {
      what: "a rank",
      call: () => ops.gather(x(), 1, ops.zeros([3], { dtype: "int64" })),
      error: ShapeError,
    },
    {
      what: "more entries off the axis",
      call: () => ops.gather(x(), 1, ops.zeros([3, 3], { dtype: "int64" })),
      error: ShapeError,
    },
    {
      what: "axis past the end",
      call: () => ops.gather(x(), 2, ops.zeros([2, 3], { dtype: "int64" })),
      error: ShapeError,
    },
    {
      what: "an empty axis",
      call: () => ops.gather(ops.ones([2, 0]), 1, ops.zeros([2, 1], { dtype: "int64" })),
      error: IndexError,
    },
    {
      what: "no index",
      call: () => ops.gather(x(), 0, undefined as never),
      error: ArgumentError,
    },
  ],
});

const scatterAdd = row<[axis: number]>({
  op: "scatterAdd",
  reference: ([x, index, source], axis) => {
    const k = front(axis, x.shape.length);
    const out = nd(x.shape, x.data);
    eachIndex(index.shape, (where, flat) => {
      out.data[place(x.shape, where.with(k, index.data[flat]))] += source.data[flat];
    });
    return out;
  },
  args: ([x, index, source], [axis]) => [x, axis, index, source],
  cases: INDEXED.map(
    ([shape, axis, indexShape], k): Case<[number]> => ({
      inputs: [
        { shape },
        index(indexShape, shape[front(axis, shape.length)], k % 2 === 0 ? "int32" : "int64"),
        { shape: indexShape },
      ],
      extra: [axis],
    }),
  ),
  dtypes: NUMBERS,
  tolerance: {
    terms: ([x, index], axis: number) => 1 + (index[front(axis, x.length)] ?? 1),
  },
  errors: [
    {
      what: "an index too large",
      call: () => ops.scatterAdd(x(), 1, ops.full([2, 3], 3, { dtype: "int64" }), x()),
      error: IndexError,
    },
    {
      what: "a negative index",
      call: () => ops.scatterAdd(x(), 1, ops.full([2, 3], -1, { dtype: "int32" }), x()),
      error: IndexError,
    },
    {
      what: "index and source",
      call: () => ops.scatterAdd(x(), 1, ops.zeros([2, 2], { dtype: "int64" }), x()),
      error: ShapeError,
    },
    {
      what: "dtypes",
      call: () =>
        ops.scatterAdd(x(), 1, ops.zeros([2, 3], { dtype: "int64" }), ops.ones([2, 3], { dtype: "float64" })),
      error: DTypeError,
    },
    {
      what: "a float index",
      call: () => ops.scatterAdd(x(), 1, ops.zeros([2, 3]), x()),
      error: DTypeError,
    },
    {
      what: "a rank",
      call: () => ops.scatterAdd(x(), 1, ops.zeros([3], { dtype: "int64" }), ops.ones([3])),
      error: ShapeError,
    },
    {
      what: "no source",
      call: () => ops.scatterAdd(x(), 0, ops.zeros([2, 3], { dtype: "int64" }), undefined as never),
      error: ArgumentError,
    },
  ],
});

const indexSelect = row<[axis: number]>({
  op: "indexSelect",
  reference: ([x, index], axis) => select(x, axis, Array.from(index.data)),
  args: ([x, index], [axis]) => [x, axis, index],
  cases: (
    [
      [[5], 0, 3],
      [[5], 0, 0],
      [[5], -1, 12],
      [[3, 4], 0, 2],
      [[3, 4], 1, 5],
      [[2, 3, 4], 1, 4],
      [[2, 3, 4], -1, 2],
      [[1, 2, 1, 2, 1, 3], 5, 4],
      [[31, 33], 0, 65],
      [[31, 33], 1, 127],
      [[7, 5, 33], 1, 9],
      [[1], 0, 257],
      [[3, 0], 0, 2],
    ] as [number[], number, number][]
  ).flatMap(([shape, axis, n]): Case<[number]>[] =>
    (["int32", "int64"] as const).map((dtype) => ({
      inputs: [{ shape }, index([n], shape[front(axis, shape.length)], dtype)],
      extra: [axis],
    })),
  ),
  dtypes: ALL,
  errors: [
    {
      what: "an index too large",
      call: () => ops.indexSelect(x(), 0, ops.tensor([2], { dtype: "int64" })),
      error: IndexError,
    },
    {
      what: "a negative index",
      call: () => ops.indexSelect(x(), 0, ops.tensor([-1], { dtype: "int32" })),
      error: IndexError,
    },
    {
      what: "a float index",
      call: () => ops.indexSelect(x(), 0, ops.zeros([2])),
      error: DTypeError,
    },
    {
      what: "an index of rank 2",
      call: () => ops.indexSelect(x(), 0, ops.zeros([1, 2], { dtype: "int64" })),
      error: ShapeError,
    },
    {
      what: "a scalar",
      call: () => ops.indexSelect(ops.ones([]), 0, ops.zeros([1], { dtype: "int64" })),
      error: ShapeError,
    },
    {
      what: "an array as index",
      call: () => ops.indexSelect(x(), 0, [0] as never),
      error: ArgumentError,
    },
  ],
});

interface OneHotOptions {
  dtype?: "float32" | "float64" | "int32" | "int64" | "uint8" | "bool" | "bfloat16";
}
const oneHot = row<[classes: number, options?: OneHotOptions]>({
  op: "oneHot",
  reference: ([index], classes) =>
    build([...index.shape, classes], (where, flat) =>
      Number(index.data[Math.floor(flat / classes)] === where[where.length - 1]),
    ),
  cases: [
    ...([[], [1], [7], [33], [2, 3], [0], [2, 1, 2], [1, 2, 1, 2, 1]] as const).flatMap(
      (shape): Case<[number, OneHotOptions?]>[] => [
        { inputs: [{ shape, domain: below(5) }], extra: [5] },
        { inputs: [{ shape, domain: below(1) }], extra: [1] },
        { inputs: [{ shape, domain: below(127) }], extra: [127] },
      ],
    ),
    ...ALL.map(
      (dtype): Case<[number, OneHotOptions]> => ({
        inputs: [{ shape: [9], domain: below(4) }],
        extra: [4, { dtype }],
      }),
    ),
  ],
  // its result is on the CPU unless the options say otherwise
  args: ([index], [classes, options], _, device) => [
    index,
    classes,
    ...(device !== "cpu" || options ? [{ ...options, device }] : []),
  ],
  dtypes: ["int32", "int64"],
  output: (_, __, options) => options?.dtype ?? "float32",
  gradients: [],
  errors: [
    {
      what: "an index too large",
      call: () => ops.oneHot(ops.tensor([3], { dtype: "int64" }), 3),
      error: IndexError,
    },
    {
      what: "a negative index",
      call: () => ops.oneHot(ops.tensor([-1], { dtype: "int32" }), 3),
      error: IndexError,
    },
    {
      what: "no classes",
      call: () => ops.oneHot(ops.tensor([0], { dtype: "int32" }), 0),
      error: ArgumentError,
    },
    {
      what: "rank 7",
      call: () => ops.oneHot(ops.zeros([1, 1, 1, 1, 1, 1], { dtype: "int32" }), 3),
      error: ShapeError,
    },
    {
      what: "an unknown dtype",
      call: () =>
        ops.oneHot(ops.tensor([0], { dtype: "int32" }), 3, {
          dtype: "half" as never,
        }),
      error: DTypeError,
    },
    {
      what: "an array",
      call: () => ops.oneHot([0] as never, 3),
      error: ArgumentError,
    },
  ],
});

export const indexing: OpRow[] = [gather, scatterAdd, indexSelect, oneHot];
