import { requireInteger, requireOneOf, requireOptions } from "../util/check.js";
import { ArgumentError, IndexError, LoaderError } from "../util/errors.js";
import type { AugmentSpec } from "./augment/spec.js";
import type { ImageSet } from "./image_set.js";
import type { Preparation } from "./preparation.js";
import { pixelSource } from "./pixels.js";
import type { Changes, Failure } from "./sample_task.js";
import { WorkerPool } from "./worker_pool.js";

export interface LoaderOptions {
  /** Of the whole data set: the width of soft targets. */
  classes: number;
  /** Threads that prepare images; 0: the calling thread. Default 0. They do not change results. */
  workers?: number;
  /** Batches that are prepared at the same time; further ones wait for their turn. Default 2. */
  prefetch?: number;
  /**
   * A damaged file among training images: an error that names it, or the next whole file in its place. Damaged test images are
   * always an error, because accuracy on fewer of them is another figure. Default "fail".
   */
  damaged?: "fail" | "skip";
}

/** What is random about a batch of training images. */
export interface TrainingBatch {
  spec: AugmentSpec;
  seed: number;
  epoch: number;
  /** Number of the batch in its epoch: the key of mixing. */
  batch: number;
  /** Of the targets, where images are mixed. */
  smoothing: number;
}

/** A batch in the host's memory. */
export interface BatchData {
  /** Numbers of the images, row by row, on a SharedArrayBuffer. */
  pixels: Float32Array;
  /** [batch, size, size, channels] */
  shape: [number, number, number, number];
  labels: Int32Array;
  /** Probabilities [batch, classes], where the specification mixes images. */
  targets?: Float32Array;
}

/** Share of damaged files beyond which skipping them ends. */
const MAX_SKIPPED = 0.01;
/** Tasks of a batch for each worker: more than one, so that a slow image does not hold the others up. */
const TASKS_PER_WORKER = 2;

/**
 * Prepares batches in worker threads. Each number of a batch is a function of the set, the preparation, the samples and the keys of
 * randomness alone: the same bits with any number of workers, any prefetch and any order of calls.
 */
export class Loader {
  readonly #set: ImageSet;
  readonly #prepare: Preparation;
  readonly #options: Required<LoaderOptions>;
  readonly #pool: WorkerPool;
  readonly #skipped = new Map<number, string>();
  /** Buffers that were given back. */
  readonly #free: SharedArrayBuffer[] = [];
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(set: ImageSet, prepare: Preparation, options: LoaderOptions) {
    requireOptions("Loader", options, ["classes", "workers", "prefetch", "damaged"]);
    const { classes, workers = 0, prefetch = 2, damaged = "fail" } = options;
    requireInteger("Loader", "classes", classes, 1);
    requireInteger("Loader", "workers", workers, 0, 256);
    requireInteger("Loader", "prefetch", prefetch, 1);
    requireOneOf("Loader", "damaged", damaged, ["fail", "skip"]);
    checkPreparation(set, prepare);
    this.#set = set;
    this.#prepare = prepare;
    this.#options = { classes, workers, prefetch, damaged };
    const source = set.kind === "files" ? undefined : pixelSource(set);
    this.#pool = new WorkerPool(workers, { prepare, channels: set.channels, source });
  }

  /** Messages about damaged files that were left out so far, by the number of the sample. */
  get skipped(): ReadonlyMap<number, string> {
    return this.#skipped;
  }

  /**
   * Images and labels of the given samples; with `training`, randomly changed.
   * @throws {FileError} naming a file that is damaged; {LoaderError} if too many are, or a worker died; {DisposedError}
   */
  async batch(samples: ArrayLike<number>, training?: TrainingBatch): Promise<BatchData> {
    const { count, channels } = this.#set;
    const chosen = Array.from(samples);
    for (const sample of chosen)
      if (!Number.isInteger(sample) || sample < 0 || sample >= count)
        throw new IndexError("Loader", "no such sample", `0 to ${count - 1}`, `${sample}`);
    if (this.#running >= this.#options.prefetch)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      const { size } = this.#prepare;
      const pixels = this.#buffer(chosen.length * size * size * channels);
      await this.#fill(chosen, pixels, training);
      const batch: BatchData = {
        pixels,
        shape: [chosen.length, size, size, channels],
        labels: Int32Array.from(chosen, (sample) => this.#set.labels[sample]),
      };
      if (training && (training.spec.mixup > 0 || training.spec.cutmix > 0)) {
        const { classes } = this.#options;
        const { shape, labels } = batch;
        const task = { kind: "mix", pixels, shape, labels, classes, changes: training } as const;
        batch.targets = (await this.#pool.run(task)).targets;
      }
      return batch;
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running--;
    }
  }

  /** Gives the memory of a batch back for a later one: nobody may read its pixels any more. Not needed, but saves time. */
  release({ pixels }: BatchData): void {
    if (this.#free.length < this.#options.prefetch)
      this.#free.push(pixels.buffer as unknown as SharedArrayBuffer);
  }

  /** Ends the workers; batches on their way fail with a {DisposedError}. */
  async dispose(): Promise<void> {
    await this.#pool.dispose();
    this.#free.length = 0;
  }

  #buffer(length: number): Float32Array {
    const bytes = length * Float32Array.BYTES_PER_ELEMENT;
    const found = this.#free.findIndex((buffer) => buffer.byteLength >= bytes);
    if (found < 0) this.#free.length = 0; // those of smaller batches would keep larger ones from coming back
    const buffer = found < 0 ? new SharedArrayBuffer(bytes) : this.#free.splice(found, 1)[0];
    return new Float32Array(buffer, 0, length);
  }

  /** Prepares samples into `pixels`; those that are left out are replaced in `chosen`. */
  async #fill(chosen: number[], pixels: Float32Array, training: TrainingBatch | undefined): Promise<void> {
    const places = chosen.map((_, place) => place);
    for (let left = places; left.length > 0; ) {
      const failures = await this.#prepareAt(left, chosen, pixels, training);
      for (const { index, error } of failures) {
        if (!training || this.#options.damaged === "fail") throw error;
        this.#skip(chosen[index], error);
      }
      left = failures.map(({ index }) => index);
      for (const place of left)
        while (this.#skipped.has(chosen[place])) chosen[place] = (chosen[place] + 1) % this.#set.count;
    }
  }

  /** Runs the tasks for some places of a batch. Failures come with their place, in its order. */
  async #prepareAt(
    places: number[],
    chosen: readonly number[],
    pixels: Float32Array,
    training: TrainingBatch | undefined,
  ): Promise<Failure[]> {
    const length = pixels.length / chosen.length;
    const tasks = Math.max(1, this.#options.workers * TASKS_PER_WORKER);
    const perTask = Math.ceil(places.length / tasks);
    const changes: Changes | undefined = training && {
      spec: training.spec,
      seed: training.seed,
      epoch: training.epoch,
    };
    const parts = await Promise.all(
      runs(places, perTask).map(async (part) => {
        const samples = part.map((place) => chosen[place]);
        const { failures } = await this.#pool.run({
          kind: "samples",
          samples,
          paths:
            this.#set.kind === "files"
              ? samples.map((sample) => (this.#set as { paths: readonly string[] }).paths[sample])
              : undefined,
          changes,
          pixels: pixels.subarray(part[0] * length, (part[0] + part.length) * length),
        });
        return failures.map(({ index, error }) => ({ index: part[index], error }));
      }),
    );
    return parts.flat();
  }

  #skip(sample: number, error: Error): void {
    this.#skipped.set(sample, error.message);
    const most = Math.floor(this.#set.count * MAX_SKIPPED);
    if (this.#skipped.size > most)
      throw new LoaderError(
        "Loader",
        `more than 1 % of the files are damaged; the last one was: ${error.message}`,
        `at most ${most} of ${this.#set.count}`,
        `${this.#skipped.size}`,
      );
  }
}

/** Cuts a list into runs of neighbouring places, of at most `most` each. */
function runs(places: readonly number[], most: number): number[][] {
  const found: number[][] = [];
  for (const place of places) {
    const last = found.at(-1);
    if (last && last.length < most && last.at(-1) === place - 1) last.push(place);
    else found.push([place]);
  }
  return found;
}

function checkPreparation(set: ImageSet, { size, fit, mean, std }: Preparation): void {
  requireInteger("Loader", "size", size, 1);
  for (const [what, values] of Object.entries({ mean, std }))
    if (values.length !== set.channels)
      throw new ArgumentError(
        "Loader",
        `${what} does not fit the images`,
        `${set.channels} numbers`,
        `${values.length}`,
      );
  if (fit !== "pad") return;
  if (set.kind === "files")
    throw new ArgumentError(
      "Loader",
      "files are of different sizes, and cannot be padded to one",
      "fit resize or crop",
    );
  if (set.height > size || set.width > size)
    throw new ArgumentError(
      "Loader",
      "images do not fit the square",
      `at most ${size} x ${size} pixels, or another fit than pad`,
      `${set.height} x ${set.width}`,
    );
}
