/** import and export as a user meets them: weights from PyTorch and back, bit by bit. */
import { spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createQuadMamba, inferConfig, loadSafetensors, manualSeed } from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { temporaryFolder } from "../helpers/temporary.js";
import { stateDictFile } from "../helpers/torch_file.js";

const interchange = suite("import and export");
const work = temporaryFolder();
const main = join(packageRoot(), "dist/lib/cli/main.js");
const TINY = { dims: 8, depths: [2, 1, 1, 1], numClasses: 3, stateSize: 2 } as const;

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    cwd: work,
    encoding: "utf8",
  });
  return { code: status, out: stdout, err: stderr };
}

manualSeed(3);
const model = createQuadMamba({ ...TINY, depths: [...TINY.depths] });
const state = new Map(
  [...model.stateDict()].map(([name, t]) => [
    name,
    { shape: t.shape, data: t.toTypedArray() as Float32Array },
  ]),
);
writeFileSync(join(work, "w.pth"), stateDictFile(state));

interchange("weights go in and out with the same bits and names", () => {
  const imported = run("import", "w.pth", "w.safetensors", "--semantics", "paper", "--size", "32");
  assert.is(imported.code, 0, imported.err);
  assert.match(imported.out, /paper semantics, 3 classes; \d+ of \d+ tensors from model/);
  assert.is(run("export", "w.safetensors", "back.safetensors").code, 0);
  const { tensors, metadata } = loadSafetensors(join(work, "back.safetensors"));
  assert.is(metadata.get("format"), "pt");
  assert.equal([...tensors.keys()].sort(), [...state.keys()].sort());
  for (const [name, t] of tensors) assert.equal(t.toTypedArray(), state.get(name)?.data, name);
});

interchange("a classifier as ONNX, verified where it can be", () => {
  const verified = existsSync(join(packageRoot(), "node_modules/onnxruntime-web"));
  const args = ["export", "w.safetensors", "w.onnx", "--size", "24x40", "--normalise"];
  const { code, out, err } = run(...args);
  assert.is(code, 0, err);
  assert.match(out, /images \[batch, 3, 24, 40\], pixels from 0 to 1, opset 17/);
  assert.match(out, verified ? /verified in onnxruntime-web: logits differ by at most/ : /not verified/);
  assert.is(run(...args, "--verify").code, verified ? 0 : 1);
});

interchange("weights of another model are refused with what does not fit; --no-strict takes the rest", () => {
  const strict = run("import", "w.pth", "x.safetensors", "--model", "nano");
  assert.is(strict.code, 2);
  assert.match(strict.err, /missing \(\d+\): [\s\S]*unexpected \(\d+\): [\s\S]*other shape \(\d+\)/);
  assert.not.ok(existsSync(join(work, "x.safetensors")));
  const loose = run("import", "w.pth", "x.safetensors", "--model", "nano", "--no-strict");
  assert.is(loose.code, 0, loose.err);
  assert.match(loose.out, /\d+ of \d+ tensors[\s\S]*missing/);
});

interchange("wrong requests are refused", () => {
  for (const [args, message] of [
    [["import", "none.pth", "x.safetensors"], /none\.pth" cannot be read/],
    [["import", "w.pth", "x.safetensors", "--classes", "none.txt"], /none\.txt" cannot be read/],
    [["import", "w.pth", "x.safetensors", "--weights", "ema"], /has no such weights; expected model_ema/],
    [["export", "w.safetensors", "w.txt"], /expected \.safetensors or \.onnx/],
    [["export", "w.safetensors", "w.onnx", "--opset", "9"], /from 17 to 22/],
    [["export", "w.safetensors", "w.onnx", "--size", "3"], /at least 8 pixels/],
    [["export", "w.safetensors", "w.onnx", "--weights", "ema"], /no moving average/],
  ] as const) {
    const { code, err } = run(...args);
    assert.ok(code !== 0, args.join(" "));
    assert.match(err, message);
  }
});

interchange("shapes tell the configuration of a variant", () => {
  for (const variant of ["nano", "lite"] as const) {
    const made = createQuadMamba({ variant, numClasses: 7, inChannels: 1 });
    const shapes = new Map([...made.stateDict()].map(([name, t]) => [name, t.shape]));
    assert.equal(inferConfig(shapes), made.config);
    made.dispose();
  }
});

interchange.run();
