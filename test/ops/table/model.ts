import { ArgumentError, DTypeError, IndexError, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import { build, type NdArray } from "../../helpers/nd.js";
import { Random } from "../../helpers/random.js";
import { scanForward } from "../../helpers/scan.js";
import { type Case, type Domain, FLOATS, type InputSpec, type OpRow, row, SHAPES } from "./row.js";

const of = (...shapes: readonly (readonly number[])[]): InputSpec[] => shapes.map((shape) => ({ shape }));
const x = () => ops.ones([2, 3]);

const straightThrough = row<[]>({
  op: "straightThrough",
  reference: ([value]) => value,
  cases: SHAPES.map((shape) => ({ inputs: of(shape, shape) })),
  dtypes: FLOATS,
  // its gradient is that of something else; see test/autograd/straight_through.test.ts
  gradients: [],
  method: false,
  errors: [
    {
      what: "shapes",
      call: () => ops.straightThrough(x(), ops.ones([3, 2])),
      error: ShapeError,
    },
    {
      what: "no surrogate",
      call: () => ops.straightThrough(x(), undefined as never),
      error: ArgumentError,
    },
    {
      what: "a number",
      call: () => ops.straightThrough(1 as never, x()),
      error: ArgumentError,
    },
  ],
});

/** Arguments of quadArrange and quadRestore: tokens, choice, and the four tables as an object. */
function quadRow(op: "quadArrange" | "quadRestore"): OpRow {
  const tables = (batch: number, tokens: number): InputSpec[] => {
    const order: Domain = (_, k) => (k % tokens) * 1;
    const shuffled = new Random(tokens).permutation(tokens);
    const table = (shape: number[], domain: Domain): InputSpec => ({
      shape,
      dtype: "int32",
      domain,
    });
    return [
      table([batch, tokens], order),
      table([tokens], (_, k) => shuffled[k]),
      table([tokens], (_, k) => k),
      table([tokens], (_, k) => Math.floor((4 * k) / tokens)),
    ];
  };
  const places = (): ops.QuadPlaces => {
    const int = (shape: number[]) => ops.zeros(shape, { dtype: "int32" });
    return {
      order: int([2, 4]),
      fine: int([4]),
      coarse: int([4]),
      quadrant: int([4]),
    };
  };
  const tokens = () => ops.ones([2, 4, 3]);
  const choice = () => ops.ones([2, 4]);
  return row<[]>({
    op,
    reference: ([x]) => x,
    args: ([x, choice, order, fine, coarse, quadrant]) => [x, choice, { order, fine, coarse, quadrant }],
    cases: (
      [
        [1, 4, 1],
        [2, 4, 3],
        [1, 8, 2],
        [3, 16, 33],
        [2, 64, 7],
        [1, 12, 3],
        [1, 256, 1],
        [5, 4, 31],
        [0, 4, 2],
        [1, 4, 0],
      ] as const
    ).map(([batch, n, channels]) => ({
      inputs: [...of([batch, n, channels], [batch, 4]), ...tables(batch, n)],
    })),
    dtypes: FLOATS,
    parameters: [1],
    // the identity; the choice's straight-through gradient is in test/ops/semantics.test.ts
    gradients: [0],
    method: false,
    errors: [
      {
        what: "tokens of rank 2",
        call: () => ops[op](x(), choice(), places()),
        error: ShapeError,
      },
      {
        what: "batches",
        call: () => ops[op](tokens(), ops.ones([3, 4]), places()),
        error: ShapeError,
      },
      {
        what: "an order of another length",
        call: () =>
          ops[op](tokens(), choice(), {
            ...places(),
            order: ops.zeros([2, 3], { dtype: "int32" }),
          }),
        error: ShapeError,
      },
      {
        what: "a table of another length",
        call: () =>
          ops[op](tokens(), choice(), {
            ...places(),
            fine: ops.zeros([5], { dtype: "int32" }),
          }),
        error: ShapeError,
      },
      {
        what: "int64 tables",
        call: () =>
          ops[op](tokens(), choice(), {
            ...places(),
            coarse: ops.zeros([4], { dtype: "int64" }),
          }),
        error: DTypeError,
      },
      {
        what: "dtypes",
        call: () => ops[op](tokens(), ops.ones([2, 4], { dtype: "float64" }), places()),
        error: DTypeError,
      },
      {
        what: "no places",
        call: () => ops[op](tokens(), choice(), undefined as never),
        error: ArgumentError,
      },
      {
        what: "a missing table",
        call: () =>
          ops[op](tokens(), choice(), {
            ...places(),
            fine: undefined as never,
          }),
        error: ArgumentError,
      },
    ],
  });
}

interface ScanOptions {
  deltaSoftplus?: boolean;
  merge?: boolean;
}
/** u, delta, A, B, C, D, deltaBias, order. */
function scanInputs(
  batch: number,
  length: number,
  channels: number,
  groups: number,
  states: number,
  shared = false,
): (InputSpec | null)[] {
  const shuffled = new Random(length).permutation(length);
  return [
    { shape: [batch, length, shared ? channels / groups : channels] },
    {
      shape: [batch, length, channels],
      domain: (random) => random.between(0.01, 0.5),
    },
    { shape: [channels, states], domain: (random) => -random.between(0.1, 2) },
    { shape: [batch, length, groups, states] },
    { shape: [batch, length, groups, states] },
    { shape: [channels] },
    { shape: [channels], domain: (random) => random.between(-0.5, 0.5) },
    { shape: [length], dtype: "int32", domain: (_, k) => shuffled[k] },
  ];
}
const without = (inputs: (InputSpec | null)[], ...absent: number[]) =>
  inputs.map((input, k) => (absent.includes(k) ? null : input));
const scanOptions: ScanOptions[] = [
  {},
  { deltaSoftplus: true },
  { merge: true },
  { deltaSoftplus: true, merge: true },
];
const SCANS: readonly [number, number, number, number, number, boolean?][] = [
  [1, 1, 1, 1, 1],
  [1, 3, 2, 1, 2],
  [2, 4, 2, 2, 1],
  [1, 5, 4, 2, 2, true],
  [2, 33, 6, 3, 4],
  [1, 65, 8, 4, 17, true],
  [0, 4, 2, 1, 2],
  [1, 0, 2, 1, 2],
];
const selectiveScan = row<[ScanOptions?]>({
  op: "selectiveScan",
  reference: ([u, delta, A, B, C, D, deltaBias, order], options = {}) =>
    scanForward({ u, delta, A, B, C, D, deltaBias, order }, options),
  args: ([u, delta, A, B, C, D, deltaBias, order], [options]) => [
    u,
    delta,
    A,
    B,
    C,
    { D, deltaBias, order, ...options },
  ],
  cases: [
    ...SCANS.flatMap((sizes) =>
      scanOptions.flatMap((options): Case<[ScanOptions?]>[] => [
        {
          inputs: scanInputs(...sizes),
          extra: [options],
          gradcheck: sizes[0] * sizes[1] < 10 && sizes[0] * sizes[1] > 0,
        },
        { inputs: without(scanInputs(...sizes), 5, 6, 7), extra: [options] },
      ]),
    ),
    // one group may be left out of B and C
    {
      inputs: scanInputs(2, 5, 3, 1, 2).map((input, k) =>
        input && (k === 3 || k === 4) ? { ...input, shape: [2, 5, 2] } : input,
      ),
    },
  ],
  dtypes: FLOATS,
  parameters: [2, 5, 6],
  // states and outputs of the recurrence depend on each other; the norm bounds are in test/ops/selective_scan.test.ts
  tolerance: { ofLargest: 16 },
  errors: scanErrors(),
});
/** [dt, B, C] = projected; steps are dt dtWeight^T of their group. */
function projectedScanOf(inputs: readonly (NdArray | null)[]): NdArray {
  const [u, projected, dtWeight, A, D, deltaBias, order] = inputs as NdArray[];
  const [batch, length] = u.shape;
  const [groups, channels, rank] = dtWeight.shape;
  const states = A.shape[1];
  const width = rank + 2 * states;
  const at = (token: number, group: number, k: number) =>
    projected.data[(token * groups + group) * width + k];
  const delta = build([batch, length, groups * channels], (_, flat) => {
    const [token, group, channel] = [
      Math.floor(flat / (groups * channels)),
      Math.floor((flat % (groups * channels)) / channels),
      flat % channels,
    ];
    let sum = 0;
    for (let r = 0; r < rank; r++)
      sum += at(token, group, r) * dtWeight.data[(group * channels + channel) * rank + r];
    return sum;
  });
  const part = (from: number) =>
    build([batch, length, groups, states], (_, flat) =>
      at(Math.floor(flat / (groups * states)), Math.floor(flat / states) % groups, from + (flat % states)),
    );
  const scan = { u, delta, A, B: part(rank), C: part(rank + states), D, deltaBias, order };
  return scanForward(scan, { deltaSoftplus: true, merge: true });
}
function projectedInputs(
  batch: number,
  length: number,
  channels: number,
  groups: number,
  states: number,
  rank: number,
): InputSpec[] {
  const all = groups * channels;
  const shuffled = new Random(length).permutation(length);
  return [
    { shape: [batch, length, channels] },
    { shape: [batch, length, groups, rank + 2 * states] },
    { shape: [groups, channels, rank] },
    { shape: [all, states], domain: (random) => -random.between(0.1, 2) },
    { shape: [all] },
    { shape: [all], domain: (random) => random.between(-0.5, 0.5) },
    { shape: [length], dtype: "int32", domain: (_, k) => shuffled[k] },
  ];
}
const PROJECTED: readonly [number, number, number, number, number, number][] = [
  [1, 1, 1, 1, 1, 1],
  [1, 3, 2, 1, 2, 1],
  [2, 4, 1, 2, 1, 2],
  [1, 5, 2, 4, 1, 1],
  [2, 33, 6, 2, 4, 3],
  [1, 65, 8, 4, 1, 6],
  [3, 49, 24, 2, 1, 2],
  [1, 130, 33, 2, 17, 5],
  // several slices of channels, and several batch entries to a task
  [34, 3, 67, 2, 5, 3],
  [0, 4, 2, 1, 2, 1],
  [1, 0, 2, 1, 2, 1],
];
const projectedScan = row<[]>({
  op: "projectedScan",
  reference: projectedScanOf,
  args: ([u, projected, dtWeight, A, D, deltaBias, order]) => [
    u,
    projected,
    dtWeight,
    A,
    { D, deltaBias, order },
  ],
  cases: PROJECTED.flatMap((sizes) => [
    { inputs: projectedInputs(...sizes) },
    { inputs: without(projectedInputs(...sizes), 4, 5, 6) },
  ]),
  dtypes: FLOATS,
  parameters: [2, 3, 4, 5],
  // as selectiveScan; a wide projection of large values adds its own rounding
  tolerance: { ofLargest: 32 },
  errors: projectedErrors(),
});
function projectedErrors(): OpRow["errors"] {
  const scan = (
    change: Partial<Record<"u" | "projected" | "dtWeight" | "A", readonly number[]>>,
    options?: ops.ProjectedScanOptions,
  ) => {
    const shapes = { u: [2, 5, 4], projected: [2, 5, 2, 8], dtWeight: [2, 4, 2], A: [8, 3], ...change };
    return ops.projectedScan(
      ops.ones(shapes.u),
      ops.ones(shapes.projected),
      ops.ones(shapes.dtWeight),
      ops.ones(shapes.A),
      options,
    );
  };
  return [
    { what: "u of rank 2", call: () => scan({ u: [5, 4] }), error: ShapeError },
    { what: "a projection of other width", call: () => scan({ projected: [2, 5, 2, 7] }), error: ShapeError },
    {
      what: "a projection of other groups",
      call: () => scan({ projected: [2, 5, 1, 8] }),
      error: ShapeError,
    },
    { what: "a matrix as dtWeight", call: () => scan({ dtWeight: [4, 2] }), error: ShapeError },
    { what: "dtWeight of other channels", call: () => scan({ dtWeight: [2, 3, 2] }), error: ShapeError },
    { what: "A of other channels", call: () => scan({ A: [4, 3] }), error: ShapeError },
    { what: "D of another size", call: () => scan({}, { D: ops.ones([4]) }), error: ShapeError },
    { what: "a bias of another size", call: () => scan({}, { deltaBias: ops.ones([4]) }), error: ShapeError },
    {
      what: "an order of another length",
      call: () => scan({}, { order: ops.tensor([0, 1, 2, 3], { dtype: "int32" }) }),
      error: ShapeError,
    },
    { what: "a floating order", call: () => scan({}, { order: ops.ones([5]) }), error: DTypeError },
    {
      what: "an order with a token twice",
      call: () => scan({}, { order: ops.tensor([0, 1, 2, 3, 3], { dtype: "int32" }) }),
      error: IndexError,
    },
    { what: "an unknown option", call: () => scan({}, { merge: true } as never), error: ArgumentError },
  ];
}
function scanErrors(): OpRow["errors"] {
  const scan = (
    change: Partial<Record<"u" | "delta" | "A" | "B" | "C", readonly number[]>>,
    options?: ops.SelectiveScanOptions,
  ) => {
    const shapes = {
      u: [2, 5, 4],
      delta: [2, 5, 4],
      A: [4, 3],
      B: [2, 5, 2, 3],
      C: [2, 5, 2, 3],
      ...change,
    };
    return ops.selectiveScan(
      ops.ones(shapes.u),
      ops.ones(shapes.delta),
      ops.ones(shapes.A),
      ops.ones(shapes.B),
      ops.ones(shapes.C),
      options,
    );
  };
  const int = (data: number[]) => ops.tensor(data, { dtype: "int32" });
  return [
    {
      what: "u of another length",
      call: () => scan({ u: [2, 6, 4] }),
      error: ShapeError,
    },
    {
      what: "u of other channels",
      call: () => scan({ u: [2, 5, 3] }),
      error: ShapeError,
    },
    {
      what: "delta of rank 2",
      call: () => scan({ delta: [5, 4] }),
      error: ShapeError,
    },
    {
      what: "A of other channels",
      call: () => scan({ A: [3, 3] }),
      error: ShapeError,
    },
    {
      what: "no states",
      call: () => scan({ A: [4, 0], B: [2, 5, 2, 0], C: [2, 5, 2, 0] }),
      error: ShapeError,
    },
    {
      what: "B of other states",
      call: () => scan({ B: [2, 5, 2, 4] }),
      error: ShapeError,
    },
    {
      what: "C of other groups",
      call: () => scan({ C: [2, 5, 1, 3] }),
      error: ShapeError,
    },
    {
      what: "groups that do not divide",
      call: () => scan({ B: [2, 5, 3, 3], C: [2, 5, 3, 3] }),
      error: ShapeError,
    },
    {
      what: "no groups",
      call: () => scan({ B: [2, 5, 0, 3], C: [2, 5, 0, 3] }),
      error: ShapeError,
    },
    {
      what: "D of another size",
      call: () => scan({}, { D: ops.ones([2]) }),
      error: ShapeError,
    },
    {
      what: "deltaBias of higher rank",
      call: () => scan({}, { deltaBias: ops.ones([1, 4]) }),
      error: ShapeError,
    },
    {
      what: "an order of another length",
      call: () => scan({}, { order: int([0, 1, 2, 3]) }),
      error: ShapeError,
    },
    {
      what: "an order that is no permutation",
      call: () => scan({}, { order: int([0, 1, 2, 3, 3]) }),
      error: IndexError,
    },
    {
      what: "an order past the end",
      call: () => scan({}, { order: int([0, 1, 2, 3, 5]) }),
      error: IndexError,
    },
    {
      what: "a negative order",
      call: () => scan({}, { order: int([0, 1, 2, 3, -1]) }),
      error: IndexError,
    },
    {
      what: "a float order",
      call: () => scan({}, { order: ops.ones([5]) }),
      error: DTypeError,
    },
    {
      what: "D of another dtype",
      call: () => scan({}, { D: ops.ones([4], { dtype: "float64" }) }),
      error: DTypeError,
    },
    {
      what: "an unknown option",
      call: () => scan({}, { softplus: true } as never),
      error: ArgumentError,
    },
    {
      what: "merge as a number",
      call: () => scan({}, { merge: 1 as never }),
      error: ArgumentError,
    },
    {
      what: "no A",
      call: () => ops.selectiveScan(x(), x(), undefined as never, x(), x()),
      error: ArgumentError,
    },
  ];
}

interface GumbelOptions {
  tau?: number;
  hard?: boolean;
  axis?: number;
}
/** softmax((logits + noise) / tau) along an axis; with `hard` the one-hot of the largest. */
function gumbelSoftmaxOf(
  [logits, noise]: readonly NdArray[],
  { tau = 1, hard = false, axis = -1 }: GumbelOptions = {},
): NdArray {
  const k = axis < 0 ? axis + logits.shape.length : axis;
  const [n, inner] = [logits.shape[k], logits.shape.slice(k + 1).reduce((a, b) => a * b, 1)];
  const value = (flat: number) => (logits.data[flat] + (noise ? noise.data[flat] : 0)) / tau;
  return build(logits.shape, (index, flat) => {
    const line = Array.from({ length: n }, (_, i) => value(flat + (i - index[k]) * inner));
    const largest = Math.max(...line);
    if (hard) return Number(line.indexOf(largest) === index[k]);
    return Math.exp(line[index[k]] - largest) / line.reduce((sum, v) => sum + Math.exp(v - largest), 0);
  });
}
const gumbelSoftmax = row<[GumbelOptions?]>({
  op: "gumbelSoftmax",
  reference: gumbelSoftmaxOf,
  args: ([logits, noise], [options]) => [logits, { noise, ...options }],
  cases: SHAPES.filter((shape) => shape.length > 0 && shape.length < 6).flatMap(
    (shape): Case<[GumbelOptions?]>[] => [
      { inputs: of(shape, shape) },
      { inputs: [{ shape }, null], extra: [{ tau: 0.5 }] },
      { inputs: of(shape, shape), extra: [{ tau: 2, axis: 0 }] },
      // rounded to bfloat16, the largest of a line is not the only one
      ...(shape.includes(0)
        ? []
        : [
            {
              inputs: of(shape, shape),
              extra: [{ hard: true }] as [GumbelOptions],
              gradcheck: false,
              bfloat16: false,
            },
            {
              inputs: of(shape, shape),
              extra: [{ hard: true, axis: 0, tau: 0.1 }] as [GumbelOptions],
              gradcheck: false,
              bfloat16: false,
            },
          ]),
    ],
  ),
  dtypes: FLOATS,
  tolerance: { ulp: 8, ofLargest: 1 },
  errors: [
    {
      what: "tau 0",
      call: () => ops.gumbelSoftmax(x(), { tau: 0 }),
      error: ArgumentError,
    },
    {
      what: "noise of another shape",
      call: () => ops.gumbelSoftmax(x(), { noise: ops.ones([3]) }),
      error: ShapeError,
    },
    {
      what: "noise of another dtype",
      call: () =>
        ops.gumbelSoftmax(x(), {
          noise: ops.ones([2, 3], { dtype: "float64" }),
        }),
      error: DTypeError,
    },
    {
      what: "axis past the end",
      call: () => ops.gumbelSoftmax(x(), { axis: 2 }),
      error: ShapeError,
    },
    {
      what: "a scalar",
      call: () => ops.gumbelSoftmax(ops.ones([])),
      error: ShapeError,
    },
    {
      what: "hard as a number",
      call: () => ops.gumbelSoftmax(x(), { hard: 1 as never }),
      error: ArgumentError,
    },
    {
      what: "a generator of another kind",
      call: () => ops.gumbelSoftmax(x(), { generator: {} as never }),
      error: ArgumentError,
    },
    {
      what: "an unknown option",
      call: () => ops.gumbelSoftmax(x(), { temperature: 1 } as never),
      error: ArgumentError,
    },
    {
      what: "no tensor",
      call: () => ops.gumbelSoftmax(1 as never),
      error: ArgumentError,
    },
  ],
});

export const model: OpRow[] = [
  straightThrough,
  quadRow("quadArrange"),
  quadRow("quadRestore"),
  selectiveScan,
  projectedScan,
  gumbelSoftmax,
];
