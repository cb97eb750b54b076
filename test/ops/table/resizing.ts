/** Pooling and interpolation. */
import { ArgumentError, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import { at, build, type NdArray } from "../../helpers/nd.js";
import { type Case, FLOATS, type OpRow, type Pair, pair, row } from "./row.js";

const x = () => ops.ones([2, 3]);

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

export const resizing: OpRow[] = [avgPool, maxPool, adaptiveAvgPool2d, interpolate, quadrantContext];
