import { ArgumentError, DTypeError, ShapeError } from "../../../lib/index.js";
import * as ops from "../../../lib/ops/index.js";
import { at, build, map, type NdArray } from "../../helpers/nd.js";
import { type Case, FLOATS, type InputSpec, type OpRow, type Pair, pair, row } from "./row.js";

const x = () => ops.ones([2, 3]);
const of = (...shapes: readonly (readonly number[])[]): InputSpec[] => shapes.map((shape) => ({ shape }));

interface ConvOptions {
  stride?: Pair;
  padding?: Pair;
  dilation?: Pair;
  groups?: number;
}
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

export const convolution: OpRow[] = [conv2d, depthwiseSilu];
