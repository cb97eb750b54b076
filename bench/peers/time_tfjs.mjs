/**
 * Times TensorFlow.js (WebAssembly with SIMD) on the shapes of `npm run bench`; rows of the same names.
 *     node bench/peers/time_tfjs.mjs [--json FILE] [--against OURS.json]
 * Needs `npm install --no-save @tensorflow/tfjs @tensorflow/tfjs-backend-wasm`, in the folder that it is run from. What that backend
 * has no kernel for (the gradient of a convolution's weights, training as a whole) has no row.
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { finish, time } from "./rows.mjs";

const { values: options } = parseArgs({ options: { json: { type: "string" }, against: { type: "string" } } });
const require = createRequire(join(process.cwd(), "package.json"));

let tf;
let wasm;
try {
  tf = require("@tensorflow/tfjs");
  wasm = require("@tensorflow/tfjs-backend-wasm");
} catch {
  console.error(
    "this bench needs TensorFlow.js: npm install --no-save @tensorflow/tfjs @tensorflow/tfjs-backend-wasm",
  );
  process.exit(1);
}
wasm.setWasmPaths(`${dirname(require.resolve("@tensorflow/tfjs-backend-wasm/package.json"))}/wasm-out/`);
await tf.setBackend("wasm");
await tf.ready();

const BATCH = 8;
const rows = [];

/** The backend computes when it is called: a tidy around the call is all that is needed. */
const row = (group, name, run) => time(rows, group, name, () => tf.tidy(() => void run()));
const random = (...shape) => tf.randomNormal(shape, 0, 0.3);
const gelu = (x) => x.mul(0.5).mul(x.mul(Math.SQRT1_2).erf().add(1));

async function products() {
  for (const [m, out, inner] of [
    [512, 512, 512],
    [1024, 1024, 1024],
    [50176, 96, 48],
    [12544, 384, 96],
    [3136, 768, 192],
    [4096, 192, 48],
  ]) {
    // weights [in, out], as its layers have them, and the products that its gradients are made of
    const [x, dy, weight, bias] = [random(m, inner), random(m, out), random(inner, out), random(out)];
    const shape = `${m} x ${out} x ${inner} float32`;
    await row("products", `linear ${shape}`, () => tf.matMul(x, weight).add(bias));
    await row("products", `  dx ${shape}`, () => tf.matMul(dy, weight, false, true));
    await row("products", `  dw ${shape}`, () => tf.matMul(x, dy, true, false));
    if (out > inner)
      await row("products", `linear + gelu ${shape}`, () => gelu(tf.matMul(x, weight).add(bias)));
    tf.dispose([x, dy, weight, bias]);
  }
}

async function layers() {
  for (const [side, from, to] of [
    [224, 3, 24],
    [112, 24, 48],
    [56, 48, 96],
  ]) {
    const [x, dy] = [random(BATCH, side, side, from), random(BATCH, side / 2, side / 2, to)];
    const weight = random(3, 3, from, to);
    const conv = (input) => tf.conv2d(input, weight, 2, 1, "NHWC", 1, "floor");
    const shape = `${from} -> ${to} at ${side} float32`;
    await row("layers", `conv 3x3 / 2 ${shape}`, () => conv(x));
    await row("layers", `  dx ${shape}`, () => tf.grad(conv)(x, dy));
    tf.dispose([x, dy, weight]);
  }
  for (const channels of [48, 192]) {
    const [x, weight] = [random(BATCH, 56, 56, channels), random(3, 3, channels, 1)];
    const shape = `56 x 56 x ${channels} float32`;
    await row("layers", `depthwise 3x3 ${shape}`, () => tf.depthwiseConv2d(x, weight, 1, "same"));
    tf.dispose([x, weight]);
  }
  const [x, scale, shift] = [random(25088, 96), random(96), random(96)];
  await row("layers", "layer norm 25088 x 96 float32", () => {
    const { mean, variance } = tf.moments(x, 1, true);
    return x.sub(mean).mul(variance.add(1e-5).rsqrt()).mul(scale).add(shift);
  });
  const h = random(25088, 384);
  await row("layers", "gelu 25088 x 384 float32", () => gelu(h));
  tf.dispose([x, scale, shift, h]);
}

async function functions() {
  const x = tf.randomUniform([2 ** 16], 0.1, 3);
  for (const name of ["exp", "log", "tanh", "erf", "softplus", "sigmoid"])
    await row("functions", `${name} ${2 ** 16} float32`, () => x[name]());
  x.dispose();
}

const about = `TensorFlow.js ${tf.version.tfjs}, ${tf.getBackend()}, SIMD ${await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT")}, threads ${await tf.env().getAsync("WASM_HAS_MULTITHREAD_SUPPORT")}`;
console.log(about);
for (const group of [products, layers, functions]) {
  console.log(`\n${group.name}`);
  await group();
}
finish(rows, about, options);
