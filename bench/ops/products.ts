/** Matrix products: Y = X W^T, dX and dW, and the two of an MLP with GELU between them, fused and in separate passes. */
import { gelu, geluLinear, launch, linear, noGrad } from "../../lib/index.js";
import { type Cases, Inputs } from "../helpers/case.js";

/** Rows (tokens), out, in. */
const SHAPES: readonly [number, number, number][] = [
  [512, 512, 512],
  [1024, 1024, 1024],
  [2048, 2048, 2048],
  [50176, 96, 48],
  [50176, 192, 48],
  [12544, 384, 96],
  [3136, 768, 192],
  [4096, 192, 48],
];

export function* products(): Cases {
  for (const shape of SHAPES) {
    yield* one(shape);
    const [rows, wide, narrow] = shape;
    if (wide > narrow) yield* withGelu(rows, wide, narrow);
  }
}

function costOf(rows: number, out: number, inner: number) {
  return { bytes: 4 * (rows * (inner + out) + out * inner), flops: 2 * rows * out * inner };
}

function* one([rows, out, inner]: readonly [number, number, number]): Cases {
  const inputs = new Inputs();
  const [x, dy] = [inputs.random([rows, inner], 0.1), inputs.random([rows, out], 0.1)];
  const [weight, bias] = [inputs.random([out, inner], 0.1), inputs.random([out], 0.1)];
  const cost = costOf(rows, out, inner);
  const shape = `${rows} x ${out} x ${inner} float32`;
  const row = (name: string, run: () => unknown) => ({
    group: "products",
    name: `${name} ${shape}`,
    run,
    ...cost,
  });
  yield row("linear", () => noGrad(() => linear(x, weight, bias)));
  yield row("  dx", () => launch("linear_bwd_x", [dy, weight], [x]));
  yield row("  dw", () => launch("linear_bwd_w", [dy, x], [weight]));
  inputs.dispose();
}

/** To the wide side and through GELU, which two passes compute; and from there back, where the product reads through GELU. */
function* withGelu(rows: number, wide: number, narrow: number): Cases {
  const inputs = new Inputs();
  const [x, h] = [inputs.random([rows, narrow], 0.1), inputs.random([rows, wide], 0.1)];
  const [up, upBias] = [inputs.random([wide, narrow], 0.1), inputs.random([wide], 0.1)];
  const [down, downBias] = [inputs.random([narrow, wide], 0.1), inputs.random([narrow], 0.1)];
  const cost = costOf(rows, wide, narrow);
  const row = (name: string, shape: string, run: () => unknown) => ({
    group: "products",
    name: `${name} ${rows} x ${shape} float32`,
    run: () => noGrad(run),
    ...cost,
  });
  yield row("linear + gelu", `${wide} x ${narrow}`, () => gelu(linear(x, up, upBias)));
  yield row("gelu + linear", `${narrow} x ${wide}`, () => geluLinear(h, down, downBias));
  yield row("gelu, then linear", `${narrow} x ${wide}`, () => linear(gelu(h), down, downBias));
  inputs.dispose();
}
