/**
 * Matrix products at the models' shapes: Y = X W^T, dX and dW, plain and with their neighbours. A training step rounds a weight to
 * bfloat16 once, for all products with it: rows show products alone, and one what the first of them takes.
 */
import {
  type DType,
  geluLinear,
  launch,
  linear,
  noGrad,
  randn,
  scope,
  type Tensor,
} from "../../lib/index.js";
import { copyInto } from "../../lib/nn/module.js";
import { measure, type Row } from "./measure.js";

/** Rows (tokens), out, in. */
const SHAPES: readonly [number, number, number][] = [
  [401408, 192, 96],
  [401408, 384, 96],
  [401408, 96, 384],
  [401408, 96, 192],
  [401408, 192, 192],
  [401408, 16, 192],
  [100352, 768, 192],
  [100352, 192, 768],
  [25088, 1536, 384],
  [25088, 384, 1536],
  [6272, 3072, 768],
  [6272, 768, 3072],
  [8192, 8192, 8192],
];

export function productRows(): Row[] {
  return (["bfloat16", "float32"] as const).flatMap((dtype) =>
    SHAPES.filter(([rows]) => dtype === "bfloat16" || rows <= 25088 || rows === 401408).flatMap((shape) =>
      productCase(shape, dtype),
    ),
  );
}

function productCase([rows, out, inner]: [number, number, number], dtype: DType): Row[] {
  const random = (shape: number[], type: DType = dtype) =>
    scope(() => randn(shape, { device: "cuda" }).mul(0.1).to(type)).keep();
  const x = random([rows, inner]);
  const dy = random([rows, out]);
  const weight = random([out, inner], "float32");
  const changed = random([out, inner], "float32");
  const bias = random([out], "float32");
  const width = dtype === "bfloat16" ? 2 : 4;
  const cost = { bytes: width * rows * (inner + out) + 4 * out * inner, flops: 2 * rows * out * inner };
  const wide = { ...cost, bytes: cost.bytes + width * rows * inner };
  const shape = `${rows} x ${out} x ${inner} ${dtype}`;
  const run = (kernel: string, inputs: (Tensor | null)[], like: Tensor) => () =>
    launch(kernel, inputs, [like]);
  const forward = () => noGrad(() => linear(x, weight, bias));
  const result = [
    measure("products", `linear ${shape}`, forward, cost),
    measure("products", `  dx ${shape}`, run("linear_bwd_x", [dy, weight], x), cost),
    measure("products", `  dw ${shape}`, run("linear_bwd_w", [dy, x], weight), cost),
  ];
  if (dtype === "bfloat16")
    result.push(
      measure("products", `  after its weight changed ${shape}`, forward, cost, () =>
        copyInto(weight, changed),
      ),
    );
  if (inner > out && inner % out === 0)
    result.push(
      measure("products", `gelu + linear ${shape}`, () => noGrad(() => geluLinear(x, weight, bias)), cost),
      measure("products", `  dx gelu' ${shape}`, run("gelu_linear_bwd_x", [dy, weight, x], x), wide),
      measure("products", `  dw gelu ${shape}`, run("gelu_linear_bwd_w", [dy, x], weight), cost),
    );
  for (const t of [x, dy, weight, changed, bias]) t.dispose();
  return result;
}
