import { ArgumentError, DTypeError, type Generator, manualSeed, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import type { DType } from "../../../lib/tensor/dtype.js";
import { philoxWord } from "../../../lib/util/philox.js";
import { build, count, type NdArray, nd } from "../../helpers/nd.js";
import { ALL, type Case, FLOATS, NUMBERS, type OpRow, row, SHAPES } from "./row.js";

type Nested = number | boolean | Nested[];
/** Plain nested arrays as one array with its shape. */
function flatten(data: Nested): NdArray {
  const shape: number[] = [];
  for (let level = data; Array.isArray(level); level = level[0]) shape.push(level.length);
  return nd(shape, (Array.isArray(data) ? data.flat(6) : [data]).map(Number));
}
const tensor = row<[data: Nested, shape?: readonly number[]]>({
  op: "tensor",
  reference: (_, data, shape) => (shape ? nd(shape, flatten(data).data) : flatten(data)),
  args: (_, [data, shape], dtype, device) =>
    shape ? [data, shape, { dtype, device }] : [data, { dtype, device }],
  cases: [
    { inputs: [], extra: [1] },
    { inputs: [], extra: [true] },
    { inputs: [], extra: [[]] },
    { inputs: [], extra: [[1, 2, 3]], dtypes: NUMBERS },
    {
      inputs: [],
      extra: [
        [1, 0, 1, 0, 0, 1],
        [2, 3],
      ],
    },
    {
      inputs: [],
      extra: [
        [
          [1, 2],
          [3, 4],
        ],
      ],
      dtypes: NUMBERS,
    },
    { inputs: [], extra: [[[], []]] },
    { inputs: [], extra: [[[[[[[1], [0]]]]]]] },
    { inputs: [], extra: [[true, false]] },
    {
      inputs: [],
      extra: [
        [
          [1, 2],
          [3, 4],
        ],
        [4, 1],
      ],
      dtypes: NUMBERS,
    },
    {
      inputs: [],
      extra: [Array.from({ length: 257 }, (_, k) => k % 100)],
      dtypes: NUMBERS,
    },
  ].map((c) => ({ ...c, extra: c.extra as [Nested, number[]?] })),
  dtypes: ALL,
  output: (dtype) => dtype,
  gradients: [],
  method: false,
  errors: [
    {
      what: "ragged rows",
      call: () => ops.tensor([[1, 2], [3]]),
      error: ShapeError,
    },
    {
      what: "a row among numbers",
      call: () => ops.tensor([1, [2]]),
      error: ArgumentError,
    },
    {
      what: "7 dimensions",
      call: () => ops.tensor([[[[[[[1]]]]]]]),
      error: ShapeError,
    },
    {
      what: "a shape that does not hold the data",
      call: () => ops.tensor([1, 2, 3], [2]),
      error: ShapeError,
    },
    {
      what: "a string",
      call: () => ops.tensor("12" as never),
      error: ArgumentError,
    },
    {
      what: "nothing",
      call: () => ops.tensor(undefined as never),
      error: ArgumentError,
    },
    {
      what: "null among numbers",
      call: () => ops.tensor([1, null as never]),
      error: ArgumentError,
    },
    {
      what: "Float32 numbers as int32",
      call: () => ops.tensor([1.5], { dtype: "int32" }),
      error: DTypeError,
    },
    {
      what: "-1 as uint8",
      call: () => ops.tensor([-1], { dtype: "uint8" }),
      error: DTypeError,
    },
    {
      what: "2^31 as int32",
      call: () => ops.tensor([2 ** 31], { dtype: "int32" }),
      error: DTypeError,
    },
    {
      what: "2^63 as int64",
      call: () => ops.tensor([2n ** 63n], { dtype: "int64" }),
      error: DTypeError,
    },
    {
      what: "Int8Array",
      call: () => ops.tensor(new Int8Array(2) as never),
      error: DTypeError,
    },
    {
      what: "a DataView",
      call: () => ops.tensor(new DataView(new ArrayBuffer(8)) as never),
      error: DTypeError,
    },
    {
      what: "an unknown option",
      call: () => ops.tensor([1], { type: "int32" } as never),
      error: ArgumentError,
    },
  ],
});

const shapeErrors = (op: "zeros" | "ones" | "full" | "rand" | "randn" | "randGumbel"): OpRow["errors"] => {
  const call = (shape: unknown, options?: unknown) =>
    op === "full" ? ops.full(shape as never, 0, options as never) : ops[op](shape as never, options as never);
  return [
    { what: "no shape", call: () => call(undefined), error: ShapeError },
    { what: "a number for a shape", call: () => call(3), error: ShapeError },
    {
      what: "a negative dimension",
      call: () => call([2, -1]),
      error: ShapeError,
    },
    { what: "a fraction", call: () => call([1.5]), error: ShapeError },
    {
      what: "7 dimensions",
      call: () => call([1, 1, 1, 1, 1, 1, 1]),
      error: ShapeError,
    },
    {
      what: "a product past the largest",
      call: () => call([2 ** 31, 2 ** 31]),
      error: ShapeError,
    },
    {
      what: "an unknown dtype",
      call: () => call([1], { dtype: "f32" }),
      error: DTypeError,
    },
    {
      what: "an unknown option",
      call: () => call([1], { typ: "float32" }),
      error: ArgumentError,
    },
  ];
};
function constant(op: "zeros" | "ones", value: number): OpRow {
  return row<[shape: readonly number[]]>({
    op,
    reference: (_, shape) => build(shape, () => value),
    args: (_, [shape], dtype, device) => [shape, { dtype, device }],
    cases: SHAPES.map((shape) => ({ inputs: [], extra: [shape] })),
    dtypes: ALL,
    output: (dtype) => dtype,
    gradients: [],
    method: false,
    errors: shapeErrors(op),
  });
}
const full = row<[shape: readonly number[], value: number]>({
  op: "full",
  reference: (_, shape, value) => build(shape, () => value),
  args: (_, [shape, value], dtype, device) => [shape, value, { dtype, device }],
  cases: [
    ...SHAPES.map(
      (shape): Case<[readonly number[], number]> => ({
        inputs: [],
        extra: [shape, 1],
      }),
    ),
    ...[-3, 0.5, -0, Number.NaN, Infinity, -Infinity].map(
      (value): Case<[readonly number[], number]> => ({
        inputs: [],
        extra: [[3], value],
        dtypes: FLOATS,
      }),
    ),
    {
      inputs: [],
      extra: [[2], -(2 ** 31)],
      dtypes: ["int32", "int64", "float64"],
    },
    {
      inputs: [],
      extra: [[2], 2 ** 31 - 1],
      dtypes: ["int32", "int64", "float64"],
    },
    {
      inputs: [],
      extra: [[2], Number.MAX_SAFE_INTEGER],
      dtypes: ["int64", "float64"],
    },
    { inputs: [], extra: [[2], 255], dtypes: ["uint8"] },
  ],
  dtypes: ALL,
  output: (dtype) => dtype,
  gradients: [],
  method: false,
  errors: [
    ...shapeErrors("full"),
    {
      what: "no value",
      call: () => ops.full([2], undefined as never),
      error: ArgumentError,
    },
    {
      what: "a fraction as int32",
      call: () => ops.full([2], 0.5, { dtype: "int32" }),
      error: DTypeError,
    },
    {
      what: "256 as uint8",
      call: () => ops.full([2], 256, { dtype: "uint8" }),
      error: DTypeError,
    },
  ],
});

const arange = row<[start: number, end?: number, step?: number]>({
  op: "arange",
  reference: (_, start, end, step = 1) => {
    const [from, to] = end === undefined ? [0, start] : [start, end];
    const values: number[] = [];
    for (let k = 0; step > 0 ? from + k * step < to : from + k * step > to; k++) values.push(from + k * step);
    return nd([values.length], values);
  },
  args: (_, [start, end, step], dtype, device) => [start, end, step, { dtype, device }],
  cases: [
    ...(
      [[5], [0], [-3], [1], [127], [2, 7], [0, 10, 3], [10, 0, -3], [-5, 5, 2], [5, 5]] as [
        number,
        number?,
        number?,
      ][]
    ).map(
      (extra): Case<[number, number?, number?]> => ({
        inputs: [],
        extra,
        dtypes: ["float32", "float64", "int32", "int64"],
      }),
    ),
    ...(
      [
        [0, 1, 0.25],
        [1, 0, -0.125],
        [-2.5, 2.5, 1],
        [0, 100, 0.375],
      ] as [number, number, number][]
    ).map(
      (extra): Case<[number, number?, number?]> => ({
        inputs: [],
        extra,
        dtypes: FLOATS,
      }),
    ),
  ],
  dtypes: ["float32", "float64", "int32", "int64"],
  output: (dtype) => dtype,
  refusesDTypes: false,
  gradients: [],
  method: false,
  errors: [
    { what: "step 0", call: () => ops.arange(0, 5, 0), error: ArgumentError },
    { what: "NaN", call: () => ops.arange(Number.NaN), error: ArgumentError },
    {
      what: "an infinite end",
      call: () => ops.arange(0, Infinity),
      error: ArgumentError,
    },
    {
      what: "a string",
      call: () => ops.arange("5" as never),
      error: ArgumentError,
    },
    { what: "too many", call: () => ops.arange(0, 2 ** 50), error: ShapeError },
    {
      what: "an unknown dtype",
      call: () => ops.arange(0, 5, 1, { dtype: "x" as never }),
      error: DTypeError,
    },
  ],
});

const SEED = 2 ** 40 + 11;
/** Word `k` of the first draw after manualSeed(SEED): independent of native code, and checked against known answers. */
const word = (k: number): number => philoxWord(SEED, 0, 0, k);

interface RandomOptions {
  dtype: DType;
}
function random(
  op: "rand" | "randn" | "randGumbel",
  value: (k: number, dtype: DType) => number,
  ulp: number,
): OpRow {
  return row<[shape: readonly number[], options: RandomOptions]>({
    op,
    reference: (_, shape, { dtype }) => build(shape, (_index, k) => value(k, dtype)),
    args: (_, [shape, options], __, device) => {
      manualSeed(SEED);
      return [shape, { ...options, device }];
    },
    cases: FLOATS.flatMap((dtype) =>
      [...SHAPES, [1000], [4097]].map(
        (shape): Case<[readonly number[], RandomOptions]> => ({
          inputs: [],
          extra: [shape, { dtype }],
          dtypes: [dtype],
        }),
      ),
    ),
    dtypes: FLOATS,
    noBfloat16: true,
    output: (_, __, { dtype }) => dtype,
    refusesDTypes: false,
    gradients: [],
    tolerance: ulp > 0 ? { ulp } : undefined,
    method: false,
    errors: [
      ...shapeErrors(op),
      ...ALL.filter((dtype) => !FLOATS.includes(dtype)).map((dtype) => ({
        what: dtype,
        call: () => ops[op]([2], { dtype }),
        error: DTypeError,
      })),
      {
        what: "a generator of another kind",
        call: () => ops[op]([2], { generator: {} as never }),
        error: ArgumentError,
      },
    ],
  });
}
/** float32: 24 bits of a word; float64: 53 bits of two. */
function uniform(k: number, dtype: DType): number {
  if (dtype === "float32") return (word(k) >>> 8) * 2 ** -24;
  return ((word(2 * k) >>> 5) * 2 ** 26 + (word(2 * k + 1) >>> 6)) * 2 ** -53;
}
function normal(k: number): number {
  const pair = k - (k % 2);
  const radius = Math.sqrt(-2 * Math.log((word(pair) + 1) * 2 ** -32));
  const angle = 2 * Math.PI * ((word(pair + 1) + 1) * 2 ** -32);
  return radius * (k % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
}

interface DropoutOptions {
  training?: boolean;
  generator?: Generator;
}
/** Elements whose uniform number is below p become 0, in groups of `share` elements. */
function dropped(x: NdArray, probability: number, share: number, options: DropoutOptions = {}): NdArray {
  if (options.training === false || probability === 0) return x;
  const dtypeBlind = (k: number) => (word(Math.floor(k / share)) >>> 8) * 2 ** -24 >= probability;
  return build(x.shape, (_, k) => (dtypeBlind(k) ? x.data[k] / (1 - probability) : 0));
}
function dropping(op: "dropout" | "dropPath", share: (shape: readonly number[]) => number): OpRow {
  return row<[probability: number, options?: DropoutOptions]>({
    op,
    reference: ([x], probability, options) => dropped(x, probability, share(x.shape), options),
    args: (inputs, extra) => {
      manualSeed(SEED);
      return [...inputs, ...extra];
    },
    cases: [
      ...SHAPES.flatMap((shape) =>
        [0.5, 0.1].map(
          (probability): Case<[number, DropoutOptions?]> => ({
            inputs: [{ shape }],
            extra: [probability],
          }),
        ),
      ),
      ...[0, 0.3, 1, 2 ** -25].map(
        (probability): Case<[number, DropoutOptions?]> => ({
          inputs: [{ shape: [33, 5] }],
          extra: [probability, {}],
        }),
      ),
      { inputs: [{ shape: [33] }], extra: [0.5, { training: false }] },
      { inputs: [{ shape: [4096] }], extra: [0.9, { training: true }] },
    ],
    dtypes: FLOATS,
    tolerance: { ulp: 1 },
    // probability 0 and eval give the input itself, of whatever dtype
    refusesDTypes: true,
    errors: [
      {
        what: "a probability past 1",
        call: () => ops[op](ops.ones([2]), 1.5),
        error: ArgumentError,
      },
      {
        what: "a negative probability",
        call: () => ops[op](ops.ones([2]), -0.1),
        error: ArgumentError,
      },
      {
        what: "no probability",
        call: () => ops[op](ops.ones([2]), undefined as never),
        error: ArgumentError,
      },
      {
        what: "an unknown option",
        call: () => ops[op](ops.ones([2]), 0.5, { train: true } as never),
        error: ArgumentError,
      },
      {
        what: "a generator of another kind",
        call: () => ops[op](ops.ones([2]), 0.5, { generator: {} as never }),
        error: ArgumentError,
      },
      {
        what: "training as a number",
        call: () => ops[op](ops.ones([2]), 0.5, { training: 1 as never }),
        error: ArgumentError,
      },
      {
        what: "a number",
        call: () => ops[op](1 as never, 0.5),
        error: ArgumentError,
      },
    ],
  });
}

export const create: OpRow[] = [
  tensor,
  constant("zeros", 0),
  constant("ones", 1),
  full,
  arange,
  random("rand", uniform, 0),
  // the C library's logarithm, sine and cosine in double, rounded; JavaScript's are as good
  random("randn", normal, 1),
  random("randGumbel", (k) => -Math.log(-Math.log((word(k) + 0.5) * 2 ** -32)), 1),
  dropping("dropout", () => 1),
  dropping("dropPath", (shape) => Math.max(1, count(shape.slice(1)))),
];
