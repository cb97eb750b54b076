/**
 * One model in a process of its own, so that its memory is its own: `node dist/bench/models/step.js NAME THREADS` prints the rows of
 * its training step and of its forward pass as JSON.
 */
import { existsSync, readFileSync } from "node:fs";
import { AdamW, createQuadMamba, noGrad, scope, setThreads, tensor } from "../../lib/index.js";
import { addon } from "../../lib/native/addon.js";
import { TrainStep } from "../../lib/train/step.js";
import { type Case, time } from "../helpers/case.js";
import type { Row } from "../helpers/row.js";
import { MODELS, type ModelCase } from "./models.js";

/** Steps over which JavaScript's share is measured. */
const STEPS = 5;
const STATUS = "/proc/self/status";

/** Share of the time of `run` outside of kernels. The clock is read twice per kernel, so the timed rows go without. */
function javascriptShare(run: () => void): number {
  const kernels = addon.run;
  let inside = 0;
  addon.run = (size) => {
    const begin = performance.now();
    kernels(size);
    inside += performance.now() - begin;
  };
  try {
    const begin = performance.now();
    for (let k = 0; k < STEPS; k++) run();
    return 1 - inside / (performance.now() - begin);
  } finally {
    addon.run = kernels;
  }
}

/** Of this process alone: what getrusage counts on Linux begins with the parent's memory, from before the program was loaded. */
function peakResidentBytes(): number {
  const [, kib] = (existsSync(STATUS) && /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(STATUS, "utf8"))) || [];
  return 1024 * (kib === undefined ? process.resourceUsage().maxRSS : Number(kib));
}

async function rowOf(timed: Case, images: number): Promise<Row> {
  const row = await time(timed);
  const share = javascriptShare(() => scope(() => void timed.run()));
  return { ...row, images, residentBytes: peakResidentBytes(), javascriptShare: share };
}

/** The forward pass comes first: the process's peak counts all that came before. */
async function rows({ variant, channels, size, batch, classes }: ModelCase): Promise<Row[]> {
  const model = createQuadMamba({ variant, inChannels: channels, numClasses: classes });
  const shape: [number, number, number, number] = [batch, size, size, channels];
  const pixels = Float32Array.from({ length: batch * size * size * channels }, (_, k) => Math.sin(k));
  const labels = Int32Array.from({ length: batch }, (_, k) => (k * 37) % classes);
  const name = `${variant} ${channels} x ${size} x ${size} fp32`;

  const images = tensor(pixels, shape);
  model.eval();
  const forward = () => noGrad(() => model.forward(images));
  const evaluation = await rowOf({ group: "models", name: `${name} forward`, run: forward }, batch);

  model.train();
  const optimizer = new AdamW(model.parameters(), { lr: 1e-4, weightDecay: 0.05 });
  const step = new TrainStep(model, optimizer, {
    device: "cpu",
    precision: "fp32",
    accumulate: 1,
    clip: 5,
    labelSmoothing: 0.1,
    record: false,
    warn: console.error,
  });
  const train = () => step.start({ pixels, shape, labels })();
  const training = await rowOf({ group: "models", name: `${name} training step`, run: train }, batch);
  return [evaluation, training];
}

const [name, threads] = process.argv.slice(2);
setThreads(Number(threads));
process.stdout.write(JSON.stringify(await rows(MODELS[name])));
