/** Images a second that the Loader prepares, without a model, and beside it sharp alone on the same files. */
import sharp from "sharp";
import { augmentSchema } from "../data/augment/spec.js";
import { epochOrder, type ImageSet, Loader, preparationFor } from "../data/index.js";
import { PRESETS } from "../train/presets.js";
import { quantile } from "./timing.js";

export interface DataSpeedOptions {
  /** Side of the square, in pixels. */
  size: number;
  /** Threads of the Loader; sharp has as many images on the way, at least one. */
  workers: number;
  /** Of all rounds together. */
  seconds: number;
  /** The training recipe for ImageNet, or what is done in evaluation: resize and crop. */
  augment: "imagenet" | "none";
}

/** Images a second: the median of the rounds, the slowest and the fastest. */
export interface Rate {
  median: number;
  low: number;
  high: number;
}

export const ROUNDS = 5;
export const BATCH = 64;
const PREFETCH = 2;

/** Rounds of both by turns, so that whatever else the machine does meets both. `sharp` is of image files only. */
export async function dataSpeed(
  set: ImageSet,
  classes: number,
  options: DataSpeedOptions,
): Promise<{ loader: Rate; sharp: Rate | undefined }> {
  const { size, workers, seconds, augment } = options;
  const samples = epochOrder(set.count, 0, 0);
  const prepare = preparationFor(set, { size, fit: "crop", cropShare: 0.875, interpolation: "bicubic" });
  const { augment: recipe, labelSmoothing: smoothing = 0 } = PRESETS["imagenet-tiny"];
  const changes = { spec: augmentSchema.parse(recipe), seed: 0, epoch: 0, smoothing };
  const loader = new Loader(set, prepare, { classes, workers, prefetch: PREFETCH });
  const loaded: number[] = [];
  const resized: number[] = [];
  const contestants = set.kind === "files" ? 2 : 1;
  const ms = (seconds * 1000) / (ROUNDS + 1) / contestants;
  const nextBatch = async (batch: number) => {
    const chosen = Array.from({ length: BATCH }, (_, k) => samples[(batch * BATCH + k) % set.count]);
    const training = augment === "none" ? undefined : { ...changes, batch };
    loader.release(await loader.batch(chosen, training));
    return BATCH;
  };
  const nextFile = async (k: number) => {
    const { paths } = set as Extract<ImageSet, { kind: "files" }>;
    await sharp(paths[samples[k % set.count]])
      .resize(size, size)
      .removeAlpha()
      .raw()
      .toBuffer();
    return 1;
  };
  const threads = sharp.concurrency();
  try {
    sharp.concurrency(1); // as many images at a time as there are workers, each in one thread
    // the first round warms up
    for (let round = 0; round <= ROUNDS; round++) {
      const ours = await rateOf(nextBatch, PREFETCH, ms);
      const theirs = contestants === 2 ? await rateOf(nextFile, Math.max(1, workers), ms) : 0;
      if (round === 0) continue;
      loaded.push(ours);
      resized.push(theirs);
    }
  } finally {
    sharp.concurrency(threads);
    await loader.dispose();
  }
  return { loader: summary(loaded), sharp: contestants === 2 ? summary(resized) : undefined };
}

/** Images a second, with `atOnce` calls on the way until the time is up. Those that end later count, and so does their time. */
export async function rateOf(
  next: (k: number) => Promise<number>,
  atOnce: number,
  ms: number,
): Promise<number> {
  const begin = performance.now();
  let started = 0;
  let images = 0;
  const lane = async () => {
    while (performance.now() - begin < ms) {
      const done = await next(started++); // not in the sum itself, which would forget what the other lanes add meanwhile
      images += done;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return images / ((performance.now() - begin) / 1000);
}

function summary(rates: readonly number[]): Rate {
  return { median: quantile(rates, 0.5), low: Math.min(...rates), high: Math.max(...rates) };
}
