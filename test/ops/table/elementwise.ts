import { ArgumentError, cudaAvailable, type Device, DTypeError, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import type { DType } from "../../../lib/tensor/dtype.js";
import { map, nd, zip } from "../../helpers/nd.js";
import { erf, normalCdf } from "../../helpers/special_functions.js";
import { ALL, type Case, type Domain, FLOATS, NUMBERS, type OpRow, row, SHAPES } from "./row.js";

const x = () => ops.ones([2, 3]);
const notTensors = (op: string): OpRow["errors"] => {
  const call = (ops as unknown as Record<string, (...args: unknown[]) => unknown>)[op];
  return [
    { what: "a number", call: () => call(1), error: ArgumentError },
    { what: "nothing", call: () => call(), error: ArgumentError },
    { what: "an array", call: () => call([1, 2]), error: ArgumentError },
  ];
};

interface UnaryRow {
  op: string;
  f: (x: number) => number;
  domain?: Domain;
  ulp: number;
  slack?: (x: number) => number;
  dtypes?: readonly DType[];
  signedZero?: boolean;
}

function unary({ op, f, domain = "normal", ulp, slack, dtypes = FLOATS, signedZero }: UnaryRow): OpRow {
  return row({
    op,
    reference: ([x]) => map(x, f),
    cases: SHAPES.map((shape) => ({ inputs: [{ shape, domain }] })),
    dtypes,
    tolerance: ulp > 0 ? { ulp, slack } : undefined,
    unary: f,
    signedZero,
    errors: notTensors(op),
  });
}

function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}
function softplus(x: number): number {
  return x > 20 ? x : Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

const SIGNED: readonly DType[] = [...FLOATS, "int32", "int64"];

/** Errors are the largest that were measured, rounded up; the goal is 2 units in the last place. */
const unaries = [
  unary({ op: "exp", f: Math.exp, ulp: 2 }),
  unary({ op: "log", f: Math.log, domain: "positive", ulp: 2 }),
  unary({ op: "sqrt", f: Math.sqrt, domain: "positive", ulp: 0.5 }),
  unary({
    op: "rsqrt",
    f: (x) => 1 / Math.sqrt(x),
    domain: "positive",
    ulp: 1.5,
  }),
  unary({ op: "abs", f: Math.abs, domain: "nonzero", ulp: 0, dtypes: SIGNED }),
  unary({ op: "neg", f: (x) => -x, ulp: 0, dtypes: SIGNED }),
  unary({ op: "erf", f: erf, ulp: 1.5 }),
  unary({ op: "tanh", f: Math.tanh, ulp: 2 }),
  unary({ op: "sigmoid", f: sigmoid, ulp: 2.3 }),
  // far below 0 the sigmoid is subnormal, with fewer digits
  unary({
    op: "silu",
    f: (x) => x * sigmoid(x),
    ulp: 3.2,
    slack: (x) => (x < -87 ? -x * 2 ** -149 : 0),
  }),
  // 4 units where |x| < 1.4; Phi is subnormal below -13
  unary({
    op: "gelu",
    f: (x) => x * normalCdf(x),
    ulp: 8,
    slack: (x) => (x < 0 ? -x * 2 ** -149 : 0),
  }),
  unary({ op: "relu", f: (x) => Math.max(x, 0), domain: "nonzero", ulp: 0 }),
  // 2.2 with a fused multiply-add
  unary({ op: "softplus", f: softplus, ulp: 3 }),
];

/** Pairs of shapes that broadcast, the first of each longer, equal or shorter. */
const PAIRS: readonly (readonly [readonly number[], readonly number[]])[] = [
  ...SHAPES.map((shape) => [shape, shape] as const),
  [[], [3]],
  [[3], []],
  [[3], [1]],
  [[1], [33]],
  [[2, 3], [3]],
  [[3], [2, 3]],
  [
    [2, 1],
    [1, 3],
  ],
  [
    [2, 3],
    [2, 1],
  ],
  [
    [4, 1, 3],
    [2, 1],
  ],
  [[1], [0]],
  [[0, 3], [1]],
  [
    [0, 1],
    [1, 3],
  ],
  [
    [2, 1, 3, 1, 2],
    [4, 1, 5, 1],
  ],
  [
    [1, 2, 1, 2, 1, 2],
    [2, 1, 2, 1, 2, 1],
  ],
  [
    [2, 3, 4],
    [3, 1],
  ],
  [
    [2, 3, 4],
    [2, 1, 4],
  ],
  [[7, 33], [33]],
  [
    [7, 33],
    [7, 1],
  ],
  [
    [1, 65],
    [31, 1],
  ],
  [[127], [1]],
  [
    [2, 3, 1, 1],
    [1, 1, 5, 7],
  ],
  [
    [5, 1, 9],
    [5, 6, 1],
  ],
];

interface BinaryRow {
  op: string;
  f: (a: number, b: number) => number;
  domains?: [Domain, Domain];
  ulp?: number;
  dtypes?: readonly DType[];
  output?: (dtype: DType) => DType;
  gradients?: readonly number[];
  signedZero?: boolean;
}

function binary({
  op,
  f,
  domains = ["normal", "normal"],
  ulp = 0,
  dtypes = NUMBERS,
  ...rest
}: BinaryRow): OpRow {
  const call = ops[op as "add"];
  const numbers = dtypes.filter((dtype) => dtype !== "bool");
  return row<[number?]>({
    op,
    reference: ([a, b], number) => zip([a, b ?? nd([], [number as number])], f),
    cases: [
      ...PAIRS.map(
        ([a, b]): Case<[number?]> => ({
          inputs: [
            { shape: a, domain: domains[0] },
            { shape: b, domain: domains[1] },
          ],
        }),
      ),
      {
        inputs: [{ shape: [2, 3], domain: domains[0] }],
        extra: [2],
        dtypes: numbers,
      },
      {
        inputs: [{ shape: [], domain: domains[0] }],
        extra: [3],
        dtypes: numbers,
      },
      {
        inputs: [{ shape: [0], domain: domains[0] }],
        extra: [3],
        dtypes: numbers,
      },
      { inputs: [{ shape: [33], domain: domains[0] }], extra: [1] },
    ],
    dtypes,
    tolerance: ulp > 0 ? { ulp } : undefined,
    binary: f,
    errors: [
      {
        what: "shapes",
        call: () => call(ops.ones([2]), ops.ones([3])),
        error: ShapeError,
      },
      {
        what: "shapes of higher rank",
        call: () => call(ops.ones([2, 3, 4]), ops.ones([2, 1])),
        error: ShapeError,
      },
      { what: "two numbers", call: () => call(1, 2), error: ArgumentError },
      {
        what: "no second operand",
        call: () => call(x(), undefined as never),
        error: ArgumentError,
      },
      {
        what: "a string",
        call: () => call(x(), "1" as never),
        error: ArgumentError,
      },
      {
        what: "a fraction beside whole numbers",
        call: () => call(ops.ones([2], { dtype: "int32" }), 0.5),
        error: DTypeError,
      },
    ],
    ...rest,
  });
}

/** NaN wins, which `a > b` alone would not do. */
function larger(a: number, b: number): number {
  return Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : Math.max(a, b);
}
/** IEEE 754's pow, which C has; JavaScript's gives NaN for a base of 1 or -1 and an exponent of NaN or infinity. */
function pow(a: number, b: number): number {
  if (a === 1) return 1;
  return a === -1 && Math.abs(b) === Infinity ? 1 : a ** b;
}

const arithmetic = [
  binary({ op: "add", f: (a, b) => a + b, ulp: 0.5 }),
  binary({ op: "sub", f: (a, b) => a - b, ulp: 0.5 }),
  binary({ op: "mul", f: (a, b) => a * b, ulp: 0.5 }),
  binary({
    op: "div",
    f: (a, b) => a / b,
    domains: ["normal", "nonzero"],
    ulp: 0.5,
    dtypes: FLOATS,
  }),
  binary({
    op: "pow",
    f: pow,
    domains: ["positive", "normal"],
    ulp: 2,
    dtypes: FLOATS,
  }),
  // which of -0 and 0 is larger is left open, as in IEEE 754's maxNum
  binary({ op: "maximum", f: larger, signedZero: false }),
  binary({ op: "minimum", f: (a, b) => -larger(-a, -b), signedZero: false }),
];

function comparison(op: string, f: (a: number, b: number) => boolean): OpRow {
  const dtypes: readonly DType[] = [...NUMBERS, "bool"];
  return binary({
    op,
    f: (a, b) => Number(f(a, b)),
    dtypes,
    output: () => "bool",
    gradients: [],
  });
}

const comparisons = [
  comparison("eq", (a, b) => a === b),
  comparison("ne", (a, b) => a !== b),
  comparison("lt", (a, b) => a < b),
  comparison("le", (a, b) => a <= b),
  comparison("gt", (a, b) => a > b),
  comparison("ge", (a, b) => a >= b),
];

const CONDITION = { dtype: "bool" as const };
const where = row<[]>({
  op: "where",
  reference: (inputs) => zip(inputs, (c, a, b) => (c !== 0 ? a : b)),
  cases: [
    ...SHAPES.map((shape) => ({
      inputs: [{ shape, ...CONDITION }, { shape }, { shape }],
    })),
    {
      inputs: [{ shape: [3], ...CONDITION }, { shape: [2, 1] }, { shape: [] }],
    },
    {
      inputs: [{ shape: [], ...CONDITION }, { shape: [2, 3] }, { shape: [3] }],
    },
    {
      inputs: [{ shape: [2, 1, 1], ...CONDITION }, { shape: [3, 1] }, { shape: [1, 4] }],
    },
    {
      inputs: [{ shape: [1, 0], ...CONDITION }, { shape: [3, 1] }, { shape: [1] }],
    },
    {
      inputs: [{ shape: [7, 33], ...CONDITION }, { shape: [33] }, { shape: [7, 1] }],
    },
  ],
  dtypes: ALL,
  errors: [
    {
      what: "a condition of numbers",
      call: () => ops.where(x(), x(), x()),
      error: DTypeError,
    },
    {
      what: "two numbers",
      call: () => ops.where(ops.ones([2], { dtype: "bool" }), 1, 2),
      error: ArgumentError,
    },
    {
      what: "shapes",
      call: () => ops.where(ops.ones([2], { dtype: "bool" }), ops.ones([3]), 0),
      error: ShapeError,
    },
    {
      what: "dtypes",
      call: () =>
        ops.where(ops.ones([2], { dtype: "bool" }), ops.ones([2]), ops.ones([2], { dtype: "int32" })),
      error: DTypeError,
    },
  ],
});

const clampBounds = (low: number, high: number) => (x: number) =>
  Number.isNaN(x) ? x : Math.min(Math.max(x, low), high);
const clamp = row<[number, number]>({
  op: "clamp",
  reference: ([x], low, high) => map(x, clampBounds(low, high)),
  cases: [
    ...SHAPES.map(
      (shape): Case<[number, number]> => ({
        inputs: [{ shape }],
        extra: [-1.03125, 0.71875],
      }),
    ),
    { inputs: [{ shape: [33] }], extra: [-Infinity, 0.5] },
    { inputs: [{ shape: [33] }], extra: [0.5, Infinity] },
    { inputs: [{ shape: [7] }], extra: [0.25, 0.25] },
    { inputs: [{ shape: [7] }], extra: [-Infinity, Infinity] },
  ],
  dtypes: FLOATS,
  errors: [
    {
      what: "swapped bounds",
      call: () => ops.clamp(x(), 1, 0),
      error: ArgumentError,
    },
    {
      what: "NaN",
      call: () => ops.clamp(x(), Number.NaN, 0),
      error: ArgumentError,
    },
    {
      what: "no bounds",
      call: () => ops.clamp(x(), undefined as never, undefined as never),
      error: ArgumentError,
    },
    ...notTensors("clamp"),
  ],
});

/** What a value becomes in another dtype. */
function convert(value: number, from: DType, to: DType): number {
  const v = from === "bool" ? Number(value !== 0) : value;
  if (to === "bool") return Number(v !== 0);
  if (to === "float32") return Math.fround(v);
  if (to === "bfloat16") return toBfloat16(v);
  if (to === "float64") return v;
  const whole = Math.trunc(v);
  if (to === "int64") return whole;
  const [low, high] = to === "int32" ? [-(2 ** 31), 2 ** 31 - 1] : [0, 255];
  if (from === "float32" || from === "float64" || from === "bfloat16")
    return Math.min(high, Math.max(low, whole)) + 0;
  return to === "int32" ? v | 0 : v & 255;
}
/** Nearest, ties to even, of those float32 values whose lower 16 bits are 0. */
export function toBfloat16(v: number): number {
  if (!Number.isFinite(v) || v === 0) return v;
  const step = 2 ** (Math.max(-126, Math.floor(Math.log2(Math.abs(v)))) - 7);
  const scaled = v / step;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
  return rounded * step;
}

const CONVERTED = [[], [0], [33], [2, 1, 5]] as const;
const isDevice = (target: DType | Device): target is Device => target === "cpu" || target === "cuda";

/** cast and to: from every dtype to every dtype; to also to every device of this machine. */
function conversions(op: "cast" | "to"): OpRow {
  const cases: Case<[target: DType | Device, from?: DType]>[] = [];
  for (const from of ALL)
    for (const to of ALL)
      for (const shape of CONVERTED)
        cases.push({
          inputs: [{ shape, domain: (random) => random.between(-300, 300) }],
          extra: [to, from],
          dtypes: [from],
          gradcheck: from === "float64" && to === "float64",
        });
  const devices: readonly Device[] = op === "cast" ? [] : cudaAvailable() ? ["cpu", "cuda"] : ["cpu"];
  for (const device of devices)
    for (const shape of CONVERTED) cases.push({ inputs: [{ shape }], extra: [device] });
  return row<[DType | Device, DType?]>({
    op,
    reference: ([x], to, from) => (isDevice(to) ? x : map(x, (v) => convert(v, from as DType, to))),
    args: ([x], [to]) => [x, to],
    cases,
    dtypes: ALL,
    output: (dtype, to) => (isDevice(to) ? dtype : to),
    device: (device, to) => (isDevice(to) ? to : device),
    errors: [
      {
        what: "an unknown dtype",
        call: () => ops[op](x(), "float16" as never),
        error: DTypeError,
      },
      {
        what: "no dtype",
        call: () => ops[op](x(), undefined as never),
        error: DTypeError,
      },
      {
        what: "a number",
        call: () => ops[op](1 as never, "float32"),
        error: ArgumentError,
      },
    ],
  });
}

export const elementwise: OpRow[] = [
  ...unaries,
  ...arithmetic,
  ...comparisons,
  where,
  clamp,
  conversions("cast"),
  conversions("to"),
];
