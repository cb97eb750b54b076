/** Convolutions, norms, GELU, the loss and the optimiser, forward and each gradient. */
import {
  AdamW,
  conv2d,
  crossEntropy,
  depthwiseSilu,
  gelu,
  launch,
  layerNorm,
  noGrad,
  tensor,
} from "../../lib/index.js";
import { type Cases, Inputs } from "../helpers/case.js";
import { dropGradients } from "../helpers/gradients.js";

const BATCH = 8;
/** Side of the input, channels in and out. */
const CONVS: readonly [side: number, from: number, to: number][] = [
  [224, 3, 24],
  [112, 24, 48],
  [56, 48, 96],
];
const DEPTHWISE: readonly [side: number, channels: number][] = [
  [56, 48],
  [56, 192],
];

export function* layers(): Cases {
  for (const [side, from, to] of CONVS) yield* strided(side, from, to);
  for (const [side, channels] of DEPTHWISE) yield* depthwise(side, channels);
  yield* norm(25088, 96);
  yield* activation(25088, 384);
  yield* loss(128, 1000);
  yield* optimiser(10_000_000, 1);
  yield* optimiser(10_000_000, 200);
}

function layer(name: string, run: () => unknown, cost: { bytes?: number; flops?: number } = {}) {
  return { group: "layers", name, run, ...cost };
}

function* strided(side: number, from: number, to: number): Cases {
  const inputs = new Inputs();
  const [x, dy] = [
    inputs.random([BATCH, side, side, from], 0.3),
    inputs.random([BATCH, side / 2, side / 2, to], 0.3),
  ];
  const [weight, bias] = [inputs.random([to, from, 3, 3], 0.3), inputs.random([to], 0.3)];
  // stride, padding and dilation as lists of two, and the groups
  const attrs = [2, 2, 2, 2, 1, 1, 2, 1, 1, 1];
  const cost = { bytes: 4 * (x.size + dy.size), flops: 2 * dy.size * from * 9 };
  const what = `${from} -> ${to} at ${side} float32`;
  const forward = () => noGrad(() => conv2d(x, weight, bias, { stride: 2, padding: 1 }));
  yield layer(`conv 3x3 / 2 ${what}`, forward, cost);
  yield layer(`  dx ${what}`, () => launch("conv2d_bwd_x", [dy, weight], [x], attrs), cost);
  yield layer(`  dw ${what}`, () => launch("conv2d_bwd_w", [dy, x], [weight], attrs), cost);
  inputs.dispose();
}

function* depthwise(side: number, channels: number): Cases {
  const inputs = new Inputs();
  const shape = [BATCH, side, side, channels];
  const [x, dy] = [inputs.random(shape, 0.3), inputs.random(shape, 0.3)];
  const [weight, bias] = [inputs.random([channels, 1, 3, 3], 0.3), inputs.random([channels], 0.3)];
  const attrs = [2, 1, 1, 2, 1, 1, 2, 1, 1, channels];
  const cost = (maps: number) => ({ bytes: 4 * maps * x.size });
  const what = `${side} x ${side} x ${channels} float32`;
  yield layer(`depthwise 3x3 + silu ${what}`, () => noGrad(() => depthwiseSilu(x, weight)), cost(2));
  const gradients = () => launch("depthwise_silu_bwd", [dy, x, weight, null], [x, weight, bias]);
  yield layer(`  backward ${what}`, gradients, cost(3));
  const plain = () => noGrad(() => conv2d(x, weight, null, { padding: 1, groups: channels }));
  yield layer(`depthwise 3x3 ${what}`, plain, cost(2));
  yield layer(`  dx ${what}`, () => launch("conv2d_bwd_x", [dy, weight], [x], attrs), cost(2));
  yield layer(`  dw ${what}`, () => launch("conv2d_bwd_w", [dy, x], [weight], attrs), cost(2));
  inputs.dispose();
}

function* norm(rows: number, channels: number): Cases {
  const inputs = new Inputs();
  const [x, dy] = [inputs.random([rows, channels]), inputs.random([rows, channels])];
  const [weight, bias] = [inputs.random([channels]), inputs.random([channels])];
  const [mean, rstd] = [inputs.random([rows]), inputs.keep(() => inputs.random([rows]).abs())];
  const what = `${rows} x ${channels} float32`;
  yield layer(`layer norm ${what}`, () => noGrad(() => layerNorm(x, weight, bias)), { bytes: 8 * x.size });
  const gradients = () => launch("layer_norm_bwd", [dy, x, weight, mean, rstd, null], [x, weight, bias]);
  yield layer(`  backward ${what}`, gradients, { bytes: 12 * x.size });
  inputs.dispose();
}

function* activation(rows: number, channels: number): Cases {
  const inputs = new Inputs();
  const [x, dy] = [inputs.random([rows, channels]), inputs.random([rows, channels])];
  const what = `${rows} x ${channels} float32`;
  yield layer(`gelu ${what}`, () => noGrad(() => gelu(x)), { bytes: 8 * x.size });
  yield layer(`  backward ${what}`, () => launch("gelu_bwd", [dy, x], [x]), { bytes: 12 * x.size });
  inputs.dispose();
}

function* loss(rows: number, classes: number): Cases {
  const inputs = new Inputs();
  const logits = inputs.random([rows, classes]);
  const labels = inputs.keep(() => tensor(Int32Array.from({ length: rows }, (_, k) => (k * 37) % classes)));
  const what = `${rows} x ${classes} float32`;
  yield layer(`cross-entropy ${what}`, () => noGrad(() => crossEntropy(logits, labels)));
  logits.requiresGrad = true;
  yield layer(`cross-entropy forward + backward ${what}`, () => {
    crossEntropy(logits, labels).backward();
    dropGradients(logits);
  });
  inputs.dispose();
}

function* optimiser(parameters: number, tensors: number): Cases {
  const inputs = new Inputs();
  const params = Array.from({ length: tensors }, () => inputs.random([parameters / tensors]));
  for (const p of params) {
    p.requiresGrad = true;
    p.grad = inputs.random([parameters / tensors], 0.01);
  }
  const optimizer = new AdamW(params, { lr: 1e-5, weightDecay: 0.05 });
  // reads p, g, m and v; writes p, m and v
  yield layer(`adamw ${parameters} in ${tensors} float32`, () => optimizer.step(), {
    bytes: 28 * parameters,
  });
  optimizer.dispose();
  inputs.dispose();
}
