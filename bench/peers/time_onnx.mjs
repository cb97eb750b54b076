/**
 * Times onnxruntime on forward rows of `npm run bench`; it does not train.
 *     node bench/peers/time_onnx.mjs [--threads 2] [--json FILE] [--against OURS.json]
 * Needs `npm install --no-save --ignore-scripts onnxruntime-node`, in the folder that it is run from (its install script downloads
 * CUDA, which is not used here). Weights are constants of the model, which it may pack beforehand; convolutions are NCHW, its layout.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { constant, model, node } from "./onnx_model.mjs";
import { finish, time } from "./rows.mjs";

const { values: options } = parseArgs({
  options: {
    threads: { type: "string", default: "2" },
    json: { type: "string" },
    against: { type: "string" },
  },
});
const require = createRequire(join(process.cwd(), "package.json"));
let ort;
try {
  ort = require("onnxruntime-node");
} catch {
  console.error("this bench needs onnxruntime: npm install --no-save --ignore-scripts onnxruntime-node");
  process.exit(1);
}

const BATCH = 8;
const rows = [];

const size = (dims) => dims.reduce((a, b) => a * b, 1);
/** Numbers from -0.5 to 0.5, the same every time. */
const numbers = (dims) => Float32Array.from({ length: size(dims) }, (_, k) => ((k * 0.618) % 1) - 0.5);
const weight = (name, ...dims) => constant(name, dims, numbers(dims));

async function row(group, name, graph) {
  const session = await ort.InferenceSession.create(model(graph), {
    intraOpNumThreads: Number(options.threads),
    graphOptimizationLevel: "all",
  });
  const feeds = { x: new ort.Tensor("float32", (graph.input ?? numbers)(graph.x), graph.x) };
  // made once: new pages for every result would be timed with it
  const results = { y: new ort.Tensor("float32", new Float32Array(size(graph.y)), graph.y) };
  await time(rows, group, name, () => session.run(feeds, results));
  await session.release();
}

/** Nodes of GELU from `from` to y. */
const gelu = (from) => [
  node("Mul", [from, "sqrt1_2"], "scaled"),
  node("Erf", ["scaled"], "erf"),
  node("Add", ["erf", "one"], "shifted"),
  node("Mul", [from, "shifted"], "doubled"),
  node("Mul", ["doubled", "half"], "y"),
];
const geluConstants = [
  constant("sqrt1_2", [], Float32Array.of(Math.SQRT1_2)),
  constant("one", [], Float32Array.of(1)),
  constant("half", [], Float32Array.of(0.5)),
];

console.log(`onnxruntime ${ort.env.versions.node}, ${options.threads} threads`);

console.log("\nproducts");
for (const [m, out, inner] of [
  [512, 512, 512],
  [1024, 1024, 1024],
  [2048, 2048, 2048],
  [50176, 96, 48],
  [50176, 192, 48],
  [12544, 384, 96],
  [3136, 768, 192],
  [4096, 192, 48],
]) {
  const shape = `${m} x ${out} x ${inner} float32`;
  const product = (output) => node("Gemm", ["x", "w", "b"], output, { transB: 1 });
  const constants = [weight("w", out, inner), weight("b", out)];
  const ends = { x: [m, inner], y: [m, out] };
  await row("products", `linear ${shape}`, { nodes: [product("y")], constants, ...ends });
  if (out > inner) {
    const nodes = [product("h"), ...gelu("h")];
    await row("products", `linear + gelu ${shape}`, {
      nodes,
      constants: [...constants, ...geluConstants],
      ...ends,
    });
  }
}

console.log("\nlayers");
for (const [side, from, to] of [
  [224, 3, 24],
  [112, 24, 48],
  [56, 48, 96],
])
  await row("layers", `conv 3x3 / 2 ${from} -> ${to} at ${side} float32`, {
    nodes: [
      node("Conv", ["x", "w", "b"], "y", { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
    ],
    constants: [weight("w", to, from, 3, 3), weight("b", to)],
    x: [BATCH, from, side, side],
    y: [BATCH, to, side / 2, side / 2],
  });
for (const channels of [48, 192]) {
  const map = [BATCH, channels, 56, 56];
  await row("layers", `depthwise 3x3 56 x 56 x ${channels} float32`, {
    nodes: [node("Conv", ["x", "w"], "y", { kernel_shape: [3, 3], pads: [1, 1, 1, 1], group: channels })],
    constants: [weight("w", channels, 1, 3, 3)],
    x: map,
    y: map,
  });
}
await row("layers", "layer norm 25088 x 96 float32", {
  nodes: [node("LayerNormalization", ["x", "scale", "shift"], "y", { epsilon: 1e-5 })],
  constants: [weight("scale", 96), weight("shift", 96)],
  x: [25088, 96],
  y: [25088, 96],
});
await row("layers", "gelu 25088 x 384 float32", {
  nodes: gelu("x"),
  constants: geluConstants,
  x: [25088, 384],
  y: [25088, 384],
});

console.log("\nfunctions");
const line = [2 ** 16];
for (const type of ["Exp", "Log", "Tanh", "Erf", "Softplus", "Sigmoid"])
  await row("functions", `${type.toLowerCase()} ${line[0]} float32`, {
    nodes: [node(type, ["x"], "y")],
    x: line,
    y: line,
    input: (dims) => numbers(dims).map((value) => value + 0.6),
  });

finish(rows, `onnxruntime ${ort.env.versions.node}`, options);
