/** ONNX files, run by onnxruntime-web where it is installed, against the model itself. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  ArgumentError,
  ConfigError,
  createQuadMamba,
  exportOnnx,
  manualSeed,
  type OnnxOptions,
  type QuadMamba,
  type QuadMambaConfig,
} from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { Message } from "../../lib/onnx/protobuf.js";
import { verifyOnnx } from "../../lib/onnx/verify.js";
import { thrown } from "../helpers/leaks.js";

const onnx = suite("ONNX");
const installed = existsSync(join(packageRoot(), "node_modules/onnxruntime-web"));
const run = installed ? onnx : onnx.skip;
/** How far logits may lie apart. */
const BOUND = 1e-4;
const TINY = { dims: 8, depths: [2, 2, 1, 1] as [number, number, number, number], numClasses: 5 };

function tiny(config: Parameters<typeof createQuadMamba>[0] = TINY): QuadMamba {
  manualSeed(7);
  return createQuadMamba(config).eval();
}

onnx("the wire format: varints, floats, lengths", () => {
  const hex = (m: Message) => Buffer.concat([...m.parts]).toString("hex");
  // Worked by hand from the encoding's rules; 150 as field 1 is its documentation's example.
  assert.is(hex(new Message().int(1, 150)), "089601");
  assert.is(hex(new Message().int(1, -1)), "08ffffffffffffffffff01");
  assert.is(hex(new Message().int(16, 0)), "800100");
  assert.is(hex(new Message().float(2, 1)), "150000803f");
  assert.is(hex(new Message().string(2, "testing")), "120774657374696e67");
  assert.is(hex(new Message().message(3, new Message().int(1, 150))), "1a03089601");
});

const CASES: [string, Parameters<typeof createQuadMamba>[0], OnnxOptions][] = [
  ["paper, odd sizes", TINY, { height: 37, width: 50 }],
  ["released, odd sizes", { ...TINY, semantics: "released" }, { height: 61, width: 45, opset: 18 }],
  [
    "several states, biases, post-norm",
    { ...TINY, stateSize: 3, convBias: true, postNorm: true },
    { height: 32, width: 32, opset: 20 },
  ],
  [
    "quad blocks in all stages",
    { ...TINY, quadStages: [1, 2, 3, 4], ssmRatio: 2 },
    { height: 32, width: 64, opset: 21 },
  ],
  [
    "no quad blocks, a rank of its own",
    { ...TINY, quadStages: [], dtRank: 2, inChannels: 1 },
    { height: 24, width: 24, opset: 22 },
  ],
  [
    "normalisation in the graph",
    TINY,
    { height: 32, width: 32, opset: 19, normalise: { mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.4] } },
  ],
];
for (const [what, config, options] of CASES)
  run(`${what}: logits are the model's, in batches of 1 and 3`, async () => {
    const model = tiny(config);
    const difference = await verifyOnnx(model, exportOnnx(model, options), options);
    assert.ok((difference as number) < BOUND, `difference ${difference}`);
    model.dispose();
  });

run("verification notices other weights", async () => {
  const model = tiny();
  const options = { height: 32, width: 32 };
  const file = exportOnnx(model, options);
  manualSeed(8);
  const other = createQuadMamba(TINY).eval();
  assert.ok(((await verifyOnnx(other, file, options)) as number) > BOUND);
  model.dispose();
  other.dispose();
});

onnx("equal models give equal files", () => {
  const [a, b] = [1, 2].map(() => Buffer.concat(exportOnnx(tiny(), { height: 32, width: 32 })));
  assert.ok(a.equals(b));
});

onnx("what cannot be exported is refused", () => {
  const size = { height: 32, width: 32 };
  assert.throws(
    () => exportOnnx(tiny({ ...TINY, numClasses: 0 }), size),
    (e: Error) => e instanceof ConfigError && /no classifier/.test(e.message),
  );
  for (const wrong of [{ opset: 16 }, { opset: 99 }, { height: 7 }, { width: 8.5 }])
    assert.throws(
      () => exportOnnx(tiny(), { ...size, ...wrong }),
      (e: Error) => e instanceof ArgumentError,
    );
  for (const [key, config] of [
    ["partition", { partition: "random" }],
    ["partition", { partition: "fixed" }],
    ["coarseGrid", { coarseGrid: 4 }],
    ["levels", { levels: 3 }],
    ["topK", { topK: 2 }],
    ["shiftDirections", { shiftDirections: 0 }],
    ["fixedWindows", { quadStages: [], fixedWindows: 2 }],
  ] as [string, Partial<QuadMambaConfig>][]) {
    const model = tiny({ ...TINY, ...config });
    const { message } = thrown(() => exportOnnx(model, size), ConfigError, key);
    assert.match(message, `models of this ${key} cannot be exported`);
    model.dispose();
  }
});

onnx.run();
