/**
 * Runs that are stopped, killed and damaged. The short form is a sample; QUADMAMBA_TEST_LONG=1 stops at 20 steps, kills 20 times on the
 * way, kills 500 times while it saves, and flips 2,000 bits.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FileError, loadSafetensors } from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { loadCheckpoint, type TrainOptions, train } from "../../lib/train/index.js";
import { RunFolder } from "../../lib/train/run_folder.js";
import { philoxUniform, philoxWord } from "../../lib/util/philox.js";
import { hashTensors } from "../helpers/hash.js";
import { writeTinyData } from "../helpers/idx_files.js";
import { temporaryFolder } from "../helpers/temporary.js";

const durability = suite("durability");
const LONG = process.env.QUADMAMBA_TEST_LONG === "1";
const EPOCHS = LONG ? 50 : 15;
const STEPS = 4 * EPOCHS;
const work = temporaryFolder();
const main = join(packageRoot(), "dist/lib/cli/main.js");
const CONFIG: TrainOptions = {
  data: writeTinyData(join(work, "data"), { train: 64, test: 20, size: 14, classes: 4 }),
  model: { dims: 8, depths: [1, 1, 1, 1], dropPathRate: 0.2 },
  imageSize: 16,
  augment: { flip: 0.5, shift: 1, erase: 0.3, mixup: 0.8 },
  epochs: EPOCHS,
  batchSize: 16,
  accumulate: 2,
  ema: 0.9,
  lr: 2e-3,
  saveEvery: 1,
  logEvery: 1,
  threads: 1,
};
const configFile = join(work, "config.json");
writeFileSync(configFile, JSON.stringify(CONFIG));

function hashOf(folder: string): string {
  const { tensors } = loadSafetensors(join(folder, "last.safetensors"));
  const hash = hashTensors(tensors);
  for (const t of tensors.values()) t.dispose();
  return hash;
}

let straight: string | undefined;
async function straightHash(): Promise<string> {
  if (straight === undefined) {
    const out = join(work, "straight");
    await train({ ...CONFIG, saveEvery: 0 }, { out });
    straight = hashOf(out);
  }
  return straight;
}

/** Starts the run, or goes on with it, in a child process. */
function start(out: string, ...flags: string[]) {
  const child = spawn(process.execPath, [main, "train", "--config", configFile, "--out", out, ...flags], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
  return { child, ended };
}

/** Kills the run some milliseconds after it has taken a step and saved one. */
async function killAfter(milliseconds: number, out: string, ...flags: string[]): Promise<void> {
  const log = join(out, "metrics.jsonl");
  const sizeOf = () => (existsSync(log) ? statSync(log).size : 0);
  const { child, ended } = start(out, ...flags);
  let before = sizeOf();
  const saved = () => sizeOf() > before && existsSync(join(out, "last.safetensors"));
  while (!saved() && child.exitCode === null) {
    before = Math.min(before, sizeOf()); // what is beyond the checkpoint was dropped
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  child.kill("SIGKILL");
  assert.is(await ended, null, "the run ended before it was killed"); // an exit code: nothing was interrupted
}

durability(`stopped at ${LONG ? 20 : 3} random steps, with and without workers: the same bits`, async () => {
  const expected = await straightHash();
  for (let k = 0; k < (LONG ? 20 : 3); k++) {
    const step = 1 + (philoxWord(11, 0, 0, k) % (STEPS - 1));
    const out = join(work, `stopped-${k}`);
    const stop = new AbortController();
    const observer = { step: (at: { step: number }) => at.step === step && stop.abort() };
    await train({ ...CONFIG, saveEvery: 0, workers: k % 3 }, { out, signal: stop.signal, observer });
    const { steps } = await train({ ...CONFIG, saveEvery: 0, workers: (k + 1) % 3, prefetch: 4 }, { out });
    assert.is(steps, STEPS);
    assert.is(hashOf(out), expected, `stopped at step ${step}`);
  }
});

durability(`killed ${LONG ? 20 : 2} times on the way: the same bits`, async () => {
  const expected = await straightHash();
  const runs = LONG ? 5 : 1;
  for (let r = 0; r < runs; r++) {
    const out = join(work, `killed-${r}`);
    for (let k = 0; k < (LONG ? 4 : 2); k++)
      await killAfter(120 * philoxUniform(12, 0, r, k), out, "--workers", `${k % 2}`);
    assert.is(await start(out).ended, 0);
    assert.is(hashOf(out), expected, `run ${r}`);
    assert.is(readFileSync(join(out, "first_steps.jsonl"), "utf8").trim().split("\n").length, 20);
  }
});

durability(`killed ${LONG ? 500 : 4} times while saving: the newest checkpoint is always whole`, async () => {
  const out = join(work, "saving");
  for (let k = 0; k < (LONG ? 500 : 4); k++) {
    await killAfter(25 * philoxUniform(13, 0, 0, k), out, "--epochs", "100000", "--workers", "0");
    const checkpoint = new RunFolder(out).loadNewest((message) => assert.unreachable(message));
    assert.ok(checkpoint, `after kill ${k + 1}`);
    for (const t of checkpoint.tensors.values()) t.dispose();
    assert.ok(existsSync(join(out, "last.safetensors")), `after kill ${k + 1}`);
  }
});

durability(`each of ${LONG ? "2,000" : "100"} flipped bits of a checkpoint is noticed`, async () => {
  await straightHash();
  const bytes = readFileSync(join(work, "straight/last.safetensors"));
  const path = join(work, "flipped.safetensors");
  for (let k = 0; k < (LONG ? 2000 : 100); k++) {
    const bit = philoxWord(14, 0, 0, k) % (8 * bytes.length);
    bytes[bit >> 3] ^= 1 << (bit & 7);
    writeFileSync(path, bytes);
    try {
      loadCheckpoint(path);
      assert.unreachable(`bit ${bit} was not noticed`);
    } catch (error) {
      assert.instance(error, FileError, String(error));
    }
    bytes[bit >> 3] ^= 1 << (bit & 7);
  }
});

durability.run();
