/** Whole runs on a tiny data set: learning, determinism, resuming, and what is left behind. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  ConfigError,
  FileError,
  getThreads,
  loadSafetensors,
  memory,
  setThreads,
  TrainingError,
} from "../../lib/index.js";
import {
  type Checkpoint,
  loadCheckpoint,
  modelOf,
  type StepReport,
  type TrainOptions,
  train,
  verifyRun,
  type Weights,
} from "../../lib/train/index.js";
import { philoxWord } from "../../lib/util/philox.js";
import { hashTensors } from "../helpers/hash.js";
import { writeTinyData } from "../helpers/idx_files.js";
import { temporaryFolder } from "../helpers/temporary.js";

const trainer = suite("trainer");
const work = temporaryFolder();
const data = writeTinyData(join(work, "data"), {
  train: 100,
  test: 30,
  size: 14,
  classes: 4,
});
const CONFIG: TrainOptions = {
  data,
  model: { dims: 8, depths: [2, 1, 1, 1], dropPathRate: 0.2 },
  imageSize: 16,
  epochs: 3,
  batchSize: 16,
  lr: 4e-3,
  augment: { flip: 0.5, shift: 1 },
  logEvery: 1,
};
let folders = 0;
const newFolder = (): string => join(work, `run-${folders++}`);

function hashOf(folder: string, file = "last.safetensors"): string {
  const { tensors } = loadSafetensors(join(folder, file));
  const hash = hashTensors(tensors);
  for (const t of tensors.values()) t.dispose();
  return hash;
}

/** Runs until `step`, then stops as a signal would. */
async function runUntil(step: number, out: string): Promise<void> {
  const stop = new AbortController();
  const result = await train(CONFIG, {
    out,
    signal: stop.signal,
    observer: { step: (at) => at.step === step && stop.abort() },
  });
  assert.ok(result.interrupted);
  assert.is(result.steps, step);
}

const straight = newFolder();
let whole = "";

trainer("a run learns, and leaves its configuration, environment, metrics and checkpoints", async () => {
  const losses: number[] = [];
  const before = memory.liveTensors;
  const result = await train(CONFIG, {
    out: straight,
    observer: { epoch: (at) => losses.push(at.trainLoss) },
  });
  whole = hashOf(straight);
  assert.is(result.steps, 18);
  assert.is(losses.length, 3);
  assert.ok(losses[2] < losses[0], `losses ${losses}`);
  assert.ok(memory.liveTensors <= before, "tensors were left behind"); // earlier tests may lose some to the collector
  for (const name of [
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "last.safetensors",
    "best.safetensors",
  ])
    assert.ok(existsSync(join(straight, name)), name);
  const lines = readFileSync(join(straight, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.is(lines.filter((line) => "testAccuracy" in line).length, 3);
  assert.equal(
    lines.map((line) => line.step).filter((step, k, all) => step !== all[k - 1]),
    Array.from({ length: 18 }, (_, k) => k + 1),
  );
});

for (const threads of [1, 2, 3]) {
  trainer(`the same bits with ${threads} threads`, async () => {
    const used = getThreads();
    const out = newFolder();
    await train({ ...CONFIG, threads }, { out });
    setThreads(used);
    assert.is(hashOf(out), whole);
  });
}

trainer("evaluation in other batches changes nothing: it moves no random number", async () => {
  const out = newFolder();
  await train({ ...CONFIG, evalBatchSize: 7 }, { out });
  assert.is(hashOf(out), whole);
});

for (let k = 0; k < 4; k++) {
  const step = 1 + (philoxWord(3, 0, 0, k) % 17);
  trainer(`stopped at step ${step} and resumed: the same bits, and no metric twice`, async () => {
    const out = newFolder();
    await runUntil(step, out);
    await train({}, { resume: out });
    assert.is(hashOf(out), whole);
    const steps = readFileSync(join(out, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.is(steps.filter((line) => !("testAccuracy" in line)).length, 18);
  });
}

trainer("a moving average changes no weight, is evaluated, saved and resumed", async () => {
  const config: TrainOptions = { ...CONFIG, ema: 0.8 };
  const [out, stopped] = [newFolder(), newFolder()];
  const accuracies: number[] = [];
  const result = await train(config, {
    out,
    observer: { epoch: ({ ema }) => accuracies.push(ema?.top1 ?? Number.NaN) },
  });
  assert.is(result.bestEmaAccuracy, Math.max(...accuracies));
  const stop = new AbortController();
  const observer = { step: (at: StepReport) => at.step === 8 && stop.abort() };
  await train(config, { out: stopped, signal: stop.signal, observer });
  await train({}, { resume: stopped });
  assert.is(hashOf(stopped), hashOf(out));

  const checkpoint = loadCheckpoint(join(out, "last.safetensors"));
  const plain = loadCheckpoint(join(straight, "last.safetensors"));
  const weightsOf = (from: Checkpoint, which: Weights) => {
    const model = modelOf(from, which);
    const hash = hashTensors(model.stateDict());
    model.dispose();
    return hash;
  };
  assert.is(weightsOf(checkpoint, "trained"), weightsOf(plain, "trained"));
  assert.is.not(weightsOf(checkpoint, "ema"), weightsOf(checkpoint, "trained"));
  assert.throws(() => modelOf(plain, "ema"), /no moving average/);
  for (const t of [...checkpoint.tensors.values(), ...plain.tensors.values()]) t.dispose();
  assert.ok(existsSync(join(out, "best-ema.safetensors")));
});

trainer("a folder with other files is refused, and so is a run of another configuration", async () => {
  await rejects(() => train(CONFIG, { out: join(work, "data") }), ConfigError, /not empty/);
  await rejects(
    () => train({ ...CONFIG, epochs: 4, seed: 1 }, { out: straight }),
    ConfigError,
    /epochs 3 there, 4 here; seed 0 there, 1 here/,
  );
});

trainer(
  "the same command goes on with a run, whatever does not change results, and has no more to do at its end",
  async () => {
    const out = newFolder();
    await runUntil(7, out);
    const result = await train({ ...CONFIG, workers: 2, prefetch: 3, saveEvery: 1 }, { out });
    assert.is(result.steps, 18);
    assert.is(hashOf(out), whole);
    const steps: number[] = [];
    const again = await train(CONFIG, { out, observer: { step: (at) => steps.push(at.step) } });
    assert.equal([again.interrupted, again.steps, again.bestAccuracy], [false, 18, result.bestAccuracy]);
    assert.equal(steps, []);
  },
);

trainer(
  "the newest checkpoints are kept; a damaged one costs the steps since the one before, and is named",
  async () => {
    const out = newFolder();
    const stop = new AbortController();
    await train(
      { ...CONFIG, saveEvery: 2, keep: 3 },
      { out, signal: stop.signal, observer: { step: (at) => at.step === 11 && stop.abort() } },
    );
    const files = readdirSync(out).filter((name) => name.startsWith("step-"));
    assert.equal(files.sort(), ["step-0000008.safetensors", "step-0000010.safetensors"]);
    for (const name of ["last.safetensors", "step-0000010.safetensors"]) {
      // written anew: the two names may be one file
      const bytes = readFileSync(join(out, name));
      bytes[bytes.length >> 1] ^= 4;
      rmSync(join(out, name));
      writeFileSync(join(out, name), bytes);
    }
    const warnings: string[] = [];
    let first = 0;
    await train(CONFIG, {
      out,
      observer: {
        begin: (at) => {
          first = at.resumedAt;
        },
        warning: (message) => warnings.push(message),
      },
    });
    assert.is(first, 8);
    assert.is(warnings.length, 2);
    assert.match(warnings[0], /last\.safetensors.*damaged.*going on from .*step-0000008/s);
    assert.is(hashOf(out), whole);
  },
);

trainer("unknown keys and wrong values are named", async () => {
  await rejects(() => train({ batchsize: 3 } as never), ConfigError, /did you mean batchSize/);
  await rejects(() => train({ epochs: 0 }), ConfigError, /epochs/);
  await rejects(() => train({ ...CONFIG, model: "nanoo" as never }), ConfigError, /did you mean nano/);
  await rejects(() => train({ ...CONFIG, batchSize: 1000 }), ConfigError, /larger than the data set/);
  await rejects(() => train({ ...CONFIG, data: "mnits" }), ConfigError, /did you mean mnist/);
});

trainer("a missing, foreign or damaged checkpoint is refused by name", async () => {
  await rejects(() => train({}, { resume: join(work, "nowhere") }), FileError, /nowhere/);
  const damaged = join(work, "damaged.safetensors");
  writeFileSync(damaged, readFileSync(join(straight, "last.safetensors")).subarray(0, 5000));
  await rejects(() => train({}, { resume: damaged }), FileError, /damaged\.safetensors/);
  await rejects(
    () => train({}, { resume: join(work, "data/train-images-idx3-ubyte") }),
    FileError,
    /train-images/,
  );
});

trainer("saves that fail cost a warning; the third in a row ends the run", async () => {
  const out = newFolder();
  const warnings: string[] = [];
  const block = (at: StepReport): void => {
    if (at.step === 1) mkdirSync(join(out, "last.safetensors")); // a folder where the file should go
  };
  await rejects(
    () =>
      train(
        { ...CONFIG, saveEvery: 1 },
        {
          out,
          observer: {
            step: block,
            warning: (message) => warnings.push(message),
          },
        },
      ),
    FileError,
    /last\.safetensors/,
  );
  assert.is(warnings.length, 2);
});

trainer(
  "released semantics draw in evaluation, and yet: resumed at an epoch's end, or evaluated otherwise, the same bits",
  async () => {
    const config: TrainOptions = { ...CONFIG, model: { ...(CONFIG.model as object), semantics: "released" } };
    const [plain, otherBatches, stopped] = [newFolder(), newFolder(), newFolder()];
    await train(config, { out: plain });
    await train({ ...config, evalBatchSize: 7 }, { out: otherBatches });
    const stop = new AbortController();
    await train(config, {
      out: stopped,
      signal: stop.signal,
      observer: { step: (at) => at.step === 6 && stop.abort() },
    });
    await train({}, { resume: stopped });
    assert.is(hashOf(otherBatches), hashOf(plain));
    assert.is(hashOf(stopped), hashOf(plain));
  },
);

trainer("a single flipped bit of a checkpoint is noticed", async () => {
  const bytes = readFileSync(join(straight, "last.safetensors"));
  const path = join(work, "flipped.safetensors");
  for (let k = 0; k < 40; k++) {
    const bit = philoxWord(5, 0, 0, k) % (8 * bytes.length);
    bytes[bit >> 3] ^= 1 << (bit & 7);
    writeFileSync(path, bytes);
    await rejects(() => train({}, { resume: path }), FileError, /flipped\.safetensors/);
    bytes[bit >> 3] ^= 1 << (bit & 7);
  }
});

trainer("a data set that has changed is refused", async () => {
  const folder = join(work, "changing");
  const shape = { train: 32, test: 8, size: 14, classes: 4 };
  const out = newFolder();
  await train({ ...CONFIG, data: writeTinyData(folder, shape), epochs: 1 }, { out });
  writeTinyData(folder, { ...shape, train: 48 });
  await rejects(() => train({}, { resume: out }), FileError, /data set has changed/);
});

trainer("what the data decides cannot be set, and images must fit", async () => {
  await rejects(() => train({ ...CONFIG, model: { numClasses: 5 } }), ConfigError, /follows from the data/);
  await rejects(() => train({ ...CONFIG, imageSize: 12 }), ConfigError, /imageSize/);
});

trainer("a last save that fails is an error, not a warning", async () => {
  const out = newFolder();
  const stop = new AbortController();
  const block = (at: StepReport): void => {
    if (at.step !== 2) return;
    mkdirSync(join(out, "last.safetensors"));
    stop.abort();
  };
  await rejects(
    () => train(CONFIG, { out, signal: stop.signal, observer: { step: block } }),
    FileError,
    /last\.safetensors/,
  );
});

trainer("metrics that cannot be written cost one warning", async () => {
  const out = newFolder();
  const warnings: string[] = [];
  const block = (at: StepReport): void => {
    if (at.step > 1) return;
    rmSync(join(out, "metrics.jsonl"));
    mkdirSync(join(out, "metrics.jsonl"));
  };
  await train(CONFIG, { out, observer: { step: block, warning: (message) => warnings.push(message) } });
  assert.is(warnings.length, 1);
  assert.is(hashOf(out), whole);
});

trainer("a loss that is no number ends the run before anything is updated", async () => {
  const out = newFolder();
  await rejects(
    () => train({ ...CONFIG, lr: 1e30, warmup: 0, clip: 1e30 }, { out }),
    TrainingError,
    /not finite at step \d+: first in (forward|backward), \w+ in .*; nothing was updated/s,
  );
  const checkpoint = loadCheckpoint(join(out, "last.safetensors"));
  for (const t of checkpoint.tensors.values()) {
    if (t.dtype === "float32") assert.ok((t.toTypedArray() as Float32Array).every(Number.isFinite));
    t.dispose();
  }
});

trainer(
  "verify-run repeats the first steps to the last bit, and names the first one that differs",
  async () => {
    const folder = newFolder();
    cpSync(straight, folder, { recursive: true });
    const before = memory.liveTensors;
    assert.equal(await verifyRun(folder), { steps: 18, differences: [], environment: [] });
    assert.ok(memory.liveTensors <= before, "tensors were left behind");
    const path = join(folder, "first_steps.jsonl");
    const lines = readFileSync(path, "utf8").trim().split("\n");
    assert.match(lines[17], /"weights":"[0-9a-f]{64}"/);
    const changed = { ...JSON.parse(lines[4]), loss: 1.25 };
    lines[4] = JSON.stringify(changed);
    writeFileSync(path, `${lines.join("\n")}\n`);
    const environment = JSON.parse(readFileSync(join(folder, "environment.json"), "utf8"));
    writeFileSync(join(folder, "environment.json"), JSON.stringify({ ...environment, node: "18.0.0" }));
    const { differences, environment: others } = await verifyRun(folder);
    assert.is(differences.length, 1);
    assert.match(differences[0], /^step 5: loss was 1\.25, is \d/);
    assert.equal(others, [`node was "18.0.0", is "${process.versions.node}"`]);
  },
);

trainer("patience ends a run that gets no better, and it stays ended", async () => {
  const out = newFolder();
  const config = { ...CONFIG, lr: 1e-9, minLr: 0, epochs: 9, patience: 2 };
  const result = await train(config, { out });
  assert.ok(!result.interrupted && result.steps < 54, `${result.steps} steps`);
  assert.is((await train(config, { out })).steps, result.steps);
});

trainer("layer decay, accumulation and activation checkpointing train, resume and repeat", async () => {
  const config: TrainOptions = { ...CONFIG, layerDecay: 0.8, accumulate: 4, checkpointing: true, ema: 0.9 };
  config.augment = { flip: 0.5, mixup: 0.8, cutmix: 1, erase: 0.3 };
  const [plain, stopped] = [newFolder(), newFolder()];
  await train(config, { out: plain });
  const stop = new AbortController();
  await train(
    { ...config, workers: 1 },
    { out: stopped, signal: stop.signal, observer: { step: (at) => at.step === 10 && stop.abort() } },
  );
  await train(config, { out: stopped });
  assert.is(hashOf(stopped), hashOf(plain));
});

async function rejects(
  fn: () => Promise<unknown>,
  ErrorClass: new (...args: never[]) => Error,
  message: RegExp,
): Promise<void> {
  const before = memory.liveTensors;
  try {
    await fn();
  } catch (error) {
    assert.instance(error, ErrorClass);
    assert.match((error as Error).message, message);
    assert.ok(memory.liveTensors <= before, "tensors were left behind");
    return;
  }
  assert.unreachable("nothing was thrown");
}

trainer.run();
