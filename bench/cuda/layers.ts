/** Norms, convolutions and elementwise kernels at the models' shapes, batch 128. */
import {
  add,
  conv2d,
  depthwiseSilu,
  type DType,
  layerNorm,
  launch,
  noGrad,
  randn,
  scope,
  sum,
  type Tensor,
} from "../../lib/index.js";
import { measure, type Row } from "./measure.js";

const MAPS: readonly [side: number, channels: number][] = [
  [56, 96],
  [56, 192],
  [28, 384],
  [14, 768],
  [7, 1536],
];
const CONVS: readonly [side: number, from: number, to: number][] = [
  [224, 3, 48],
  [112, 48, 96],
  [56, 96, 192],
  [28, 192, 384],
  [14, 384, 768],
];
const BATCH = 128;

export function layerRows(): Row[] {
  return (["bfloat16", "float32"] as const).flatMap((dtype) => [
    ...MAPS.flatMap((map) => mapCase(map, dtype)),
    ...CONVS.flatMap((conv) => convCase(conv, dtype)),
  ]);
}

function random(shape: number[], dtype: DType): Tensor {
  return scope(() => randn(shape, { device: "cuda" }).mul(0.3).to(dtype)).keep();
}

function mapCase([side, channels]: [number, number], dtype: DType): Row[] {
  const shape = [BATCH, side, side, channels];
  const [x, dy] = [random(shape, dtype), random(shape, dtype)];
  const [weight, bias] = [random([channels], "float32"), random([channels], "float32")];
  const kernel = random([channels, 1, 3, 3], "float32");
  const size = x.size * (dtype === "bfloat16" ? 2 : 4);
  const stats = { shape: shape.slice(0, 3), dtype: "float32", device: "cuda" } as const;
  const what = `${side} x ${side} x ${channels} ${dtype}`;
  const rows: Row[] = [];
  scope(() => {
    const [, mean, rstd] = launch("layer_norm_fwd", [x, weight, bias], [x, stats, stats], [1e-5]);
    rows.push(
      measure("layers", `layer norm ${what}`, () => noGrad(() => layerNorm(x, weight, bias)), {
        bytes: 2 * size,
      }),
      measure(
        "layers",
        `  backward ${what}`,
        () => launch("layer_norm_bwd", [dy, x, weight, mean, rstd, null], [x, weight, bias]),
        { bytes: 3 * size },
      ),
      measure("layers", `depthwise 3x3 + silu ${what}`, () => noGrad(() => depthwiseSilu(x, kernel)), {
        bytes: 2 * size,
      }),
      measure(
        "layers",
        `  backward ${what}`,
        () => launch("depthwise_silu_bwd", [dy, x, kernel, null], [x, kernel, bias]),
        { bytes: 3 * size },
      ),
      measure("layers", `add ${what}`, () => noGrad(() => add(x, dy)), { bytes: 3 * size }),
      measure("layers", `bias gradient ${what}`, () => noGrad(() => sum(dy, [0, 1, 2])), { bytes: size }),
    );
  });
  for (const t of [x, dy, weight, bias, kernel]) t.dispose();
  return rows;
}

function convCase([side, from, to]: [number, number, number], dtype: DType): Row[] {
  const half = side / 2;
  const [x, dy] = [random([BATCH, side, side, from], dtype), random([BATCH, half, half, to], dtype)];
  const [weight, bias] = [random([to, from, 3, 3], "float32"), random([to], "float32")];
  const attrs = [2, 2, 2, 2, 1, 1, 2, 1, 1, 1];
  const cost = {
    bytes: (x.size + dy.size) * (dtype === "bfloat16" ? 2 : 4),
    flops: 2 * dy.size * from * 9,
  };
  const what = `${from} -> ${to} at ${side} ${dtype}`;
  const rows = [
    measure(
      "layers",
      `conv 3x3 / 2 ${what}`,
      () => noGrad(() => conv2d(x, weight, bias, { stride: 2, padding: 1 })),
      cost,
    ),
    measure("layers", `  dx ${what}`, () => launch("conv2d_bwd_x", [dy, weight], [x], attrs), cost),
    measure("layers", `  dw ${what}`, () => launch("conv2d_bwd_w", [dy, x], [weight], attrs), cost),
  ];
  for (const t of [x, dy, weight, bias]) t.dispose();
  return rows;
}
