import { ArgumentError, AutogradError, DTypeError, IndexError, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import type { DType } from "../../../lib/tensor/dtype.js";
import { at, build, count, fold, front, type NdArray, nd, place } from "../../helpers/nd.js";
import { type Case, type Domain, FLOATS, type OpRow, row, SHAPES, SUMMABLE } from "./row.js";

type Axis = number | readonly number[] | null;
type ReduceExtra = [axis?: Axis, keepDims?: boolean, correction?: number];

/** Every axis of every shape, several at once, and kept or dropped; sizes past one vector and one block. */
function reductions(domain: Domain, empty: boolean): Case<ReduceExtra>[] {
  const cases: Case<ReduceExtra>[] = [];
  const add = (shape: readonly number[], ...extra: ReduceExtra) =>
    cases.push({ inputs: [{ shape, domain }], extra });
  for (const shape of SHAPES) {
    if (!empty && shape.includes(0)) continue;
    add(shape);
    add(shape, null, true);
    shape.forEach((_, axis) => add(shape, axis, axis % 2 === 0));
  }
  add([3, 4, 5], [0, 2]);
  add([3, 4, 5], [2, 0], true);
  add([3, 4, 5], [-1, 1]);
  add([3, 4, 5], []);
  add([2, 3, 4, 5], [0, 2], true);
  add([2, 3, 4, 5], [1, 3]);
  add([1, 1000]);
  add([3, 4099], 1);
  add([4099, 3], 0);
  add([5, 300, 7], 1);
  add([31, 33], 0);
  add([31, 33], -1, true);
  return cases;
}

/** How many elements fall together. */
function reduced([shape]: readonly (readonly number[])[], axis?: Axis): number {
  const axes =
    axis === undefined || axis === null ? shape.map((_, k) => k) : typeof axis === "number" ? [axis] : axis;
  return Math.max(1, count(axes.map((k) => shape[front(k, shape.length)])));
}

const x = () => ops.ones([2, 3]);
type Reduce = (x: AnyTensor, axis?: Axis, keepDims?: boolean) => unknown;
type AnyTensor = ReturnType<typeof ops.ones>;
const axisErrors = (
  op: "sum" | "mean" | "max" | "min" | "var" | "variance" | "logsumexp",
): OpRow["errors"] => {
  const call = ops[op] as Reduce;
  return [
    { what: "axis past the end", call: () => call(x(), 2), error: ShapeError },
    {
      what: "axis before the start",
      call: () => call(x(), -3),
      error: ShapeError,
    },
    { what: "a fraction", call: () => call(x(), 0.5), error: ShapeError },
    {
      what: "an axis twice",
      call: () => call(x(), [0, -2]),
      error: ShapeError,
    },
    {
      what: "keepDims as a number",
      call: () => call(x(), 0, 1 as never),
      error: ArgumentError,
    },
    { what: "a number", call: () => call(1 as never), error: ArgumentError },
  ];
};
/** The dtype in which floating numbers add up. */
const summed = (dtype: DType): DType => (dtype === "bfloat16" ? "float32" : dtype);
const total = (values: number[]) => values.reduce((sum, v) => sum + v, 0);

const sum = row<ReduceExtra>({
  op: "sum",
  reference: ([x], axis, keepDims = false) => fold(x, axis, keepDims, total),
  cases: reductions("normal", true),
  dtypes: SUMMABLE,
  output: (dtype) => (dtype === "bfloat16" || FLOATS.includes(dtype) ? summed(dtype) : "int64"),
  tolerance: { terms: reduced },
  errors: axisErrors("sum"),
});

const mean = row<ReduceExtra>({
  op: "mean",
  reference: ([x], axis, keepDims = false) => fold(x, axis, keepDims, (v) => total(v) / v.length),
  cases: reductions("normal", true),
  dtypes: FLOATS,
  output: summed,
  tolerance: { ulp: 1, terms: reduced },
  errors: axisErrors("mean"),
});

function varianceOf(values: number[], correction: number): number {
  const centre = total(values) / values.length;
  return total(values.map((v) => (v - centre) ** 2)) / Math.max(0, values.length - correction);
}
function varianceRow(op: "var" | "variance"): OpRow {
  return row<ReduceExtra>({
    op,
    reference: ([x], axis, keepDims = false, correction = 1) =>
      fold(x, axis, keepDims, (v) => varianceOf(v, correction)),
    cases: [
      ...reductions("normal", true),
      { inputs: [{ shape: [3, 5] }], extra: [1, false, 0] },
      { inputs: [{ shape: [3, 5] }], extra: [0, true, 2] },
      { inputs: [{ shape: [7] }], extra: [null, false, 0] },
    ],
    dtypes: FLOATS,
    output: summed,
    // every term is a square of a difference from a rounded mean
    tolerance: { ulp: 12 },
    errors: [
      ...axisErrors(op),
      {
        what: "a correction that is no number",
        call: () => ops[op](x(), 0, false, "1" as never),
        error: ArgumentError,
      },
    ],
    method: op === "var",
  });
}

const extremeErrors = (op: "max" | "min"): OpRow["errors"] => [
  ...axisErrors(op),
  {
    what: "nothing to reduce",
    call: () => ops[op](ops.ones([2, 0]), 1),
    error: ShapeError,
  },
];
const nanWins = (pick: (...values: number[]) => number) => (values: number[]) =>
  values.reduce((a, b) => pick(a, b));
function extreme(op: "max" | "min"): OpRow {
  return row<ReduceExtra>({
    op,
    // Math.max and Math.min let NaN win
    reference: ([x], axis, keepDims = false) =>
      fold(x, axis, keepDims, nanWins(op === "max" ? Math.max : Math.min)),
    cases: [...reductions("distinct", false), { inputs: [{ shape: [0, 3] }], extra: [1] }],
    dtypes: SUMMABLE,
    errors: extremeErrors(op),
  });
}

const argmax = row<[axis?: number | null, keepDims?: boolean]>({
  op: "argmax",
  reference: ([x], axis, keepDims = false) =>
    fold(x, axis, keepDims, (v) => v.indexOf(v.some(Number.isNaN) ? Number.NaN : Math.max(...v))),
  cases: [
    ...SHAPES.filter((shape) => !shape.includes(0)).flatMap((shape): Case<[(number | null)?, boolean?]>[] => [
      { inputs: [{ shape, domain: "distinct" }] },
      { inputs: [{ shape, domain: "distinct" }], extra: [null, true] },
      ...shape.map(
        (_, axis): Case<[number?, boolean?]> => ({
          inputs: [{ shape, domain: "distinct" }],
          extra: [axis, axis % 2 === 0],
        }),
      ),
    ]),
    // many equal ones: the lowest index
    {
      inputs: [{ shape: [40, 9], domain: (random) => random.integer(0, 2) }],
      extra: [1],
    },
    {
      inputs: [{ shape: [100, 3], domain: (random) => random.integer(0, 2) }],
      extra: [0],
    },
    {
      inputs: [{ shape: [3, 1000], domain: (random) => random.integer(0, 1) }],
      extra: [-1],
    },
  ],
  dtypes: SUMMABLE,
  output: () => "int64",
  gradients: [],
  errors: [
    {
      what: "several axes",
      call: () => ops.argmax(x(), [0, 1] as never),
      error: ShapeError,
    },
    {
      what: "nothing to reduce",
      call: () => ops.argmax(ops.ones([0])),
      error: ShapeError,
    },
    {
      what: "axis past the end",
      call: () => ops.argmax(x(), 2),
      error: ShapeError,
    },
    {
      what: "a number",
      call: () => ops.argmax(1 as never),
      error: ArgumentError,
    },
  ],
});

function logSumExp(values: number[]): number {
  const largest = Math.max(...values);
  return Number.isFinite(largest)
    ? largest + Math.log(total(values.map((v) => Math.exp(v - largest))))
    : largest;
}
const logsumexp = row<ReduceExtra>({
  op: "logsumexp",
  reference: ([x], axis, keepDims = false) => fold(x, axis, keepDims, logSumExp),
  cases: [
    ...reductions("normal", true),
    // where values are large, a bfloat16 result keeps nothing of the logarithm of two equal entries
    {
      inputs: [{ shape: [5, 7], domain: (random) => random.between(-2000, 2000) }],
      extra: [1],
      gradientTolerance: 1e-3,
      bfloat16: false,
    },
    {
      inputs: [{ shape: [5, 7], domain: (random) => random.between(900, 1000) }],
      extra: [0],
      gradientTolerance: 1e-4,
      bfloat16: false,
    },
  ],
  dtypes: FLOATS,
  // near 0 the value is a difference of its largest entry and a logarithm: what counts is the size of those
  tolerance: { ulp: 2, ofLargest: 1 },
  errors: axisErrors("logsumexp"),
});

/** Applies `f` to the rows along an axis. */
function along(x: NdArray, axis: number, f: (row: number[]) => number[]): NdArray {
  const k = front(axis, x.shape.length);
  const out = nd(x.shape);
  const starts = x.shape.with(k, 1);
  build(starts, (index) => {
    const flats = Array.from({ length: x.shape[k] }, (_, i) => place(x.shape, index.with(k, i)));
    f(flats.map((flat) => x.data[flat])).forEach((value, i) => {
      out.data[flats[i]] = value;
    });
    return 0;
  });
  return out;
}

type AxisExtra = [axis?: number];
const rows: Case<AxisExtra>[] = [
  ...SHAPES.filter((shape) => shape.length > 0).flatMap((shape) => [
    { inputs: [{ shape }] },
    ...shape.map(
      (_, axis): Case<AxisExtra> => ({
        inputs: [{ shape }],
        extra: [axis - (axis % 2) * shape.length],
      }),
    ),
  ]),
  { inputs: [{ shape: [3, 1000] }] },
  {
    // one entry takes all: its gradient is a difference of equal numbers, of which float32 keeps nothing
    inputs: [{ shape: [4, 9], domain: (random) => random.between(-500, 500) }],
    gradcheck: false,
  },
  { inputs: [{ shape: [4, 9], domain: (random) => random.between(1e4, 2e4) }], gradcheck: false },
];
function softmaxRow(op: "softmax" | "logSoftmax", f: (row: number[]) => number[]): OpRow {
  return row<AxisExtra>({
    op,
    reference: ([x], axis = -1) => along(x, axis, f),
    cases: rows,
    dtypes: FLOATS,
    tolerance: { ulp: 4, ofLargest: op === "logSoftmax" ? 1 : 0 },
    errors: [
      {
        what: "a scalar",
        call: () => ops[op](ops.ones([])),
        error: ShapeError,
      },
      {
        what: "axis past the end",
        call: () => ops[op](x(), 2),
        error: ShapeError,
      },
      {
        what: "an axis as text",
        call: () => ops[op](x(), "1" as never),
        error: ShapeError,
      },
      {
        what: "a number",
        call: () => ops[op](1 as never),
        error: ArgumentError,
      },
    ],
  });
}

interface CrossEntropyOptions {
  smoothing?: number;
  reduction?: "mean" | "sum" | "none";
}
function crossEntropyOf(
  [logits, target]: readonly NdArray[],
  { smoothing = 0, reduction = "mean" }: CrossEntropyOptions = {},
): NdArray {
  const rowsShape = logits.shape.slice(0, -1);
  const classes = logits.shape[logits.shape.length - 1];
  const losses = build(rowsShape, (_, rowIndex) => {
    const values = Array.from(logits.data.subarray(rowIndex * classes, (rowIndex + 1) * classes));
    const norm = logSumExp(values);
    let loss = 0;
    for (let c = 0; c < classes; c++) {
      const labels = target.shape.length < logits.shape.length;
      const p = labels ? Number(target.data[rowIndex] === c) : target.data[rowIndex * classes + c];
      loss -= ((1 - smoothing) * p + smoothing / classes) * (values[c] - norm);
    }
    return loss;
  });
  if (reduction === "none") return losses;
  const sum = total(Array.from(losses.data));
  return nd([], [reduction === "sum" ? sum : sum / losses.data.length]);
}
const labelled = (shape: readonly number[], dtype: "int64" | "int32" | "uint8" = "int64") => {
  const classes = shape[shape.length - 1];
  return [
    { shape },
    {
      shape: shape.slice(0, -1),
      dtype,
      domain: ((random) => random.integer(0, Math.min(classes, 256) - 1)) as Domain,
    },
  ];
};
const reductionOptions: CrossEntropyOptions[] = [
  {},
  { smoothing: 0.1 },
  { reduction: "sum" },
  { reduction: "none", smoothing: 0.25 },
];
const probabilities = (shape: readonly number[]) => [{ shape }, { shape, domain: "unit" as const }];
const crossEntropy = row<[CrossEntropyOptions?]>({
  op: "crossEntropy",
  reference: crossEntropyOf,
  cases: [
    ...[
      [1],
      [7],
      [3, 5],
      [1, 10],
      [4, 1],
      [33, 10],
      [5, 127],
      [2, 3, 4],
      [2, 1, 2, 3],
      [0, 4],
      [3, 1000],
    ].flatMap((shape) =>
      reductionOptions.map(
        (options): Case<[CrossEntropyOptions?]> => ({
          inputs: labelled(shape),
          extra: [options],
        }),
      ),
    ),
    ...[
      [1, 10],
      [3, 5],
      [33, 10],
      [2, 3, 4],
    ].flatMap((shape) =>
      reductionOptions.map(
        (options): Case<[CrossEntropyOptions?]> => ({
          inputs: probabilities(shape),
          extra: [options],
        }),
      ),
    ),
    { inputs: labelled([5, 10], "int32") },
    { inputs: labelled([5, 10], "uint8") },
    { inputs: labelled([3, 5]), extra: [{ smoothing: 1 }] },
    {
      inputs: [{ shape: [4, 9], domain: (random) => random.between(-500, 500) }, labelled([4, 9])[1]],
    },
  ],
  dtypes: FLOATS,
  noBfloat16: true,
  gradients: [0],
  tolerance: { ulp: 8, ofLargest: 2 },
  errors: [
    {
      what: "a label too large",
      call: () => ops.crossEntropy(x(), ops.tensor([0, 3], { dtype: "int64" })),
      error: IndexError,
    },
    {
      what: "a negative label",
      call: () => ops.crossEntropy(x(), ops.tensor([0, -1], { dtype: "int32" })),
      error: IndexError,
    },
    {
      what: "labels of another shape",
      call: () => ops.crossEntropy(x(), ops.zeros([3], { dtype: "int64" })),
      error: ShapeError,
    },
    {
      what: "probabilities of another shape",
      call: () => ops.crossEntropy(x(), ops.ones([3, 2])),
      error: ShapeError,
    },
    {
      what: "probabilities of another dtype",
      call: () => ops.crossEntropy(x(), ops.ones([2, 3], { dtype: "float64" })),
      error: DTypeError,
    },
    {
      what: "bool labels",
      call: () => ops.crossEntropy(x(), ops.ones([2], { dtype: "bool" })),
      error: DTypeError,
    },
    {
      what: "no classes",
      call: () => ops.crossEntropy(ops.ones([2, 0]), ops.zeros([2], { dtype: "int64" })),
      error: ShapeError,
    },
    {
      what: "a scalar",
      call: () => ops.crossEntropy(ops.ones([]), ops.zeros([], { dtype: "int64" })),
      error: ShapeError,
    },
    {
      what: "smoothing past 1",
      call: () =>
        ops.crossEntropy(x(), ops.zeros([2], { dtype: "int64" }), {
          smoothing: 1.1,
        }),
      error: ArgumentError,
    },
    {
      what: "a reduction of another name",
      call: () =>
        ops.crossEntropy(x(), ops.zeros([2], { dtype: "int64" }), {
          reduction: "avg" as never,
        }),
      error: ArgumentError,
    },
    {
      what: "an unknown option",
      call: () =>
        ops.crossEntropy(x(), ops.zeros([2], { dtype: "int64" }), {
          smooth: 0,
        } as never),
      error: ArgumentError,
    },
    {
      what: "a target with a gradient",
      call: () => ops.crossEntropy(x(), ops.ones([2, 3], { requiresGrad: true })),
      error: AutogradError,
    },
  ],
});

function layerNormOf([x, weight, bias]: readonly NdArray[], { eps = 1e-5 }: { eps?: number } = {}): NdArray {
  return along(x, -1, (values) => {
    const centre = total(values) / values.length;
    const scale = 1 / Math.sqrt(total(values.map((v) => (v - centre) ** 2)) / values.length + eps);
    return values.map(
      (v, c) => (v - centre) * scale * (weight ? at(weight, c) : 1) + (bias ? at(bias, c) : 0),
    );
  });
}
const layerNorm = row<[{ eps?: number }?]>({
  op: "layerNorm",
  reference: layerNormOf,
  cases: [
    ...[
      [1],
      [7],
      [3, 5],
      [2, 8],
      [5, 1],
      [2, 3, 4],
      [4, 31],
      [3, 33],
      [65, 127],
      [2, 2, 3, 96],
      [1, 2, 1, 2, 1, 9],
      [0, 8],
      [3, 0],
      [2, 1025],
    ].flatMap((shape): Case<[{ eps?: number }?]>[] => {
      const channels = { shape: shape.slice(-1) };
      return [
        { inputs: [{ shape }, channels, channels] },
        { inputs: [{ shape }, null, null] },
        { inputs: [{ shape }, channels, null], extra: [{ eps: 0.01 }] },
        { inputs: [{ shape }, null, channels], extra: [{}] },
      ];
    }),
    // far from 0 and almost constant: a unit in the last place of the mean is 2e-4 standard deviations
    {
      inputs: [{ shape: [3, 16], domain: (random) => 1000 + random.next() }, null, null],
      tolerance: { ofLargest: 4000 },
      gradientTolerance: 1e-3,
    },
  ],
  dtypes: FLOATS,
  parameters: [1, 2],
  tolerance: { ofLargest: 16 },
  errors: [
    {
      what: "a scalar",
      call: () => ops.layerNorm(ops.ones([])),
      error: ShapeError,
    },
    {
      what: "a weight of another size",
      call: () => ops.layerNorm(x(), ops.ones([2])),
      error: ShapeError,
    },
    {
      what: "a bias of higher rank",
      call: () => ops.layerNorm(x(), null, ops.ones([1, 3])),
      error: ShapeError,
    },
    {
      what: "dtypes",
      call: () => ops.layerNorm(x(), ops.ones([3], { dtype: "float64" })),
      error: DTypeError,
    },
    {
      what: "a negative eps",
      call: () => ops.layerNorm(x(), null, null, { eps: -1 }),
      error: ArgumentError,
    },
    {
      what: "an unknown option",
      call: () => ops.layerNorm(x(), null, null, { epsilon: 1 } as never),
      error: ArgumentError,
    },
    {
      what: "a weight that is no tensor",
      call: () => ops.layerNorm(x(), [1, 1, 1] as never),
      error: ArgumentError,
    },
  ],
});

export const reduce: OpRow[] = [
  sum,
  mean,
  varianceRow("var"),
  varianceRow("variance"),
  extreme("max"),
  extreme("min"),
  argmax,
  logsumexp,
  softmaxRow("softmax", (values) => {
    const norm = logSumExp(values);
    return values.map((v) => Math.exp(v - norm));
  }),
  softmaxRow("logSoftmax", (values) => {
    const norm = logSumExp(values);
    return values.map((v) => v - norm);
  }),
  crossEntropy,
  layerNorm,
];
