/** Whole runs on the GPU: recorded or not, stopped and resumed, evaluated: the same bits. */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cudaAvailable, loadSafetensors } from "../../lib/index.js";
import { type TrainOptions, train } from "../../lib/train/index.js";
import { hashTensors } from "../helpers/hash.js";
import { writeTinyData } from "../helpers/idx_files.js";
import { temporaryFolder } from "../helpers/temporary.js";

const trainer = suite("trainer on cuda");
const test = cudaAvailable() ? trainer : trainer.skip;
const work = temporaryFolder();
const data = writeTinyData(join(work, "data"), { train: 100, test: 30, size: 14, classes: 4 });
const CONFIG: TrainOptions = {
  data,
  model: { dims: 8, depths: [2, 1, 1, 1], dropPathRate: 0.2 },
  imageSize: 16,
  epochs: 3,
  batchSize: 16,
  lr: 4e-3,
  augment: { flip: 0.5, shift: 1 },
  device: "cuda",
};
let folders = 0;
const newFolder = (): string => join(work, `run-${folders++}`);

function hashOf(folder: string): string {
  const { tensors } = loadSafetensors(join(folder, "last.safetensors"));
  const hash = hashTensors(tensors);
  for (const t of tensors.values()) t.dispose();
  return hash;
}

/** Trains to the end, or until a step, and gives the hash of what was saved, with the loss of the last step. */
async function runOf(
  options: TrainOptions,
  stopAt?: number,
): Promise<{ hash: string; loss: number; folder: string }> {
  const out = newFolder();
  const stop = new AbortController();
  let loss = Number.NaN;
  const warnings: string[] = [];
  const { folder } = await train(options, {
    out,
    signal: stop.signal,
    observer: {
      step: (at) => {
        loss = at.loss;
        if (at.step === stopAt) stop.abort();
      },
      warning: (message) => warnings.push(message),
    },
  });
  assert.equal(warnings, []);
  return { hash: hashOf(folder), loss, folder };
}

for (const precision of ["fp32", "tf32", "bf16"] as const) {
  test(`${precision}: a run learns, and has the same bits recorded or launched kernel by kernel`, async () => {
    const recorded = await runOf({ ...CONFIG, precision });
    assert.ok(recorded.loss < 1.3, `loss ${recorded.loss} of four classes`);
    assert.is((await runOf({ ...CONFIG, precision })).hash, recorded.hash, "run again");
    assert.is((await runOf({ ...CONFIG, precision, graph: false })).hash, recorded.hash, "not recorded");
  });

  test(`${precision}: stopped and resumed at any step it ends with the same bits`, async () => {
    const straight = await runOf({ ...CONFIG, precision });
    for (const step of [1, 2, 3, 5, 6, 11]) {
      const { folder } = await runOf({ ...CONFIG, precision }, step);
      await train({}, { resume: folder });
      assert.is(hashOf(folder), straight.hash, `resumed at step ${step}`);
    }
  });
}

trainer.run();
