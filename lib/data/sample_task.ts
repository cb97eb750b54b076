import { FileError } from "../util/errors.js";
import { type AugmentSpec, augmentImage, erase, mixBatch, resizedPart } from "./augment/index.js";
import { type OpenImage, openImage, openPixels } from "./decode.js";
import type { Image } from "./image.js";
import type { MemorySet } from "./image_set.js";
import { fitImage, Normaliser, type Preparation } from "./preparation.js";

/** What a thread needs to know before its first task: not the paths of files, which come with each task. */
export type ThreadSetup = {
  prepare: Preparation;
  channels: number;
  memory: Pick<MemorySet, "pixels" | "height" | "width"> | undefined;
};

/** Random changes of an epoch. */
export interface Changes {
  spec: AugmentSpec;
  seed: number;
  epoch: number;
}

/** Prepares images one after the other. */
export interface SampleTask {
  kind: "samples";
  samples: number[];
  /** Of each sample, where the set is of files. */
  paths: string[] | undefined;
  changes: Changes | undefined;
  /** [samples, size, size, channels], to be filled. */
  pixels: Float32Array;
}

/** Mixes a whole batch in place. */
export interface MixTask {
  kind: "mix";
  pixels: Float32Array;
  shape: readonly [number, number, number, number];
  labels: Int32Array;
  classes: number;
  changes: Changes & { batch: number; smoothing: number };
}

export type Task = SampleTask | MixTask;

/** A sample whose file is damaged: `index` in its task. */
export interface Failure {
  index: number;
  error: FileError;
}

export interface TaskResult {
  failures: Failure[];
  /** Of a mixed batch: probabilities [batch, classes]. */
  targets?: Float32Array;
}

/** Does tasks, in whatever thread. What it computes depends on the task alone. */
export class TaskRunner {
  readonly #setup: ThreadSetup;
  readonly #normaliser: Normaliser;
  readonly #length: number;

  constructor(setup: ThreadSetup) {
    this.#setup = setup;
    this.#normaliser = new Normaliser(setup.prepare);
    this.#length = setup.prepare.size ** 2 * setup.channels;
  }

  async run(task: Task): Promise<TaskResult> {
    if (task.kind === "samples") return { failures: await this.#prepare(task) };
    const { pixels, shape, labels, classes, changes } = task;
    return {
      failures: [],
      targets: mixBatch(pixels, shape, labels, classes, changes.spec, changes, changes.smoothing),
    };
  }

  async #prepare({ samples, paths, changes, pixels }: SampleTask): Promise<Failure[]> {
    const failures: Failure[] = [];
    for (const [index, sample] of samples.entries()) {
      try {
        const image = paths ? await openImage(paths[index], this.#setup.channels) : this.#inMemory(sample);
        const into = pixels.subarray(index * this.#length, (index + 1) * this.#length);
        if (changes) this.#writeChanged(image, changes, sample, into);
        else this.#normaliser.write(fitImage(image.part(), this.#setup.prepare), into);
      } catch (error) {
        if (!(error instanceof FileError)) throw error;
        failures.push({ index, error });
      }
    }
    return failures;
  }

  /** The shared bytes themselves: augmentation makes new images. */
  #inMemory(sample: number): OpenImage {
    const { pixels, height, width } = this.#setup.memory as MemorySet;
    const { channels } = this.#setup;
    const length = height * width * channels;
    return openPixels({
      data: pixels.subarray(sample * length, (sample + 1) * length),
      ...{ height, width, channels },
    });
  }

  #writeChanged(image: OpenImage, { spec, seed, epoch }: Changes, sample: number, into: Float32Array): void {
    const { prepare, channels } = this.#setup;
    const { size, fit } = prepare;
    const key = { seed, epoch, sample };
    let changed: Image;
    // Padding comes first, so that there is room to move in; resizing last, as small images are changed sooner than large ones.
    if (fit === "pad") changed = augmentImage(fitImage(image.part(), prepare), size, spec, key);
    else if (!spec.resizedCrop) changed = fitImage(augmentImage(image.part(), size, spec, key), prepare);
    else {
      const part = resizedPart(image, (box) => image.part(box), size, spec, key);
      changed = augmentImage(part, size, { ...spec, resizedCrop: undefined }, key);
    }
    this.#normaliser.write(changed, into);
    if (spec.erase > 0) erase(into, [size, size, channels], spec, key);
  }
}
