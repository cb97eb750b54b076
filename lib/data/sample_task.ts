import { FileError } from "../util/errors.js";
import { type AugmentSpec, augmentImage, erase, mixBatch } from "./augment/index.js";
import { decodeFile, type OpenImage, openImage, openPixels } from "./decode.js";
import { Pixels, type PixelSource } from "./pixels.js";
import { fitImage, Normaliser, type Preparation } from "./preparation.js";

/** What a thread needs to know before its first task: not the paths of files, which come with each task. */
export type ThreadSetup = {
  prepare: Preparation;
  channels: number;
  /** Of images in memory or in a packed file. */
  source: PixelSource | undefined;
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

/** Decodes whole files, to see whether they can be, or to keep their bytes. */
export interface DecodeTask {
  kind: "decode";
  paths: string[];
  /** [files, size, size, channels], to be filled. */
  into: Uint8Array | undefined;
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

export type Task = SampleTask | DecodeTask | MixTask;

/** A sample whose file is damaged: `index` in its task. */
export interface Failure {
  index: number;
  error: FileError;
}

export interface TaskResult {
  failures: Failure[];
  /** Of a mixed batch: probabilities [batch, classes]. */
  targets?: Float32Array;
  /** Of decoded files: height and width, 0 and 0 of a damaged one. */
  sizes?: [number, number][];
}

/** Does tasks, in whatever thread. What it computes depends on the task alone. */
export class TaskRunner {
  readonly #setup: ThreadSetup;
  readonly #normaliser: Normaliser;
  /** The mean colour, as bytes: what RandAugment moves in from outside an image. */
  readonly #fill: readonly number[];
  readonly #length: number;
  readonly #pixels: Pixels | undefined;

  constructor(setup: ThreadSetup) {
    this.#setup = setup;
    this.#normaliser = new Normaliser(setup.prepare);
    this.#fill = setup.prepare.mean.map((mean) => Math.min(255, Math.round(255 * mean)));
    this.#length = setup.prepare.size ** 2 * setup.channels;
    this.#pixels = setup.source && new Pixels(setup.source);
  }

  async run(task: Task): Promise<TaskResult> {
    if (task.kind === "samples") return { failures: await this.#prepare(task) };
    if (task.kind === "decode") return this.#decode(task);
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
        const image = paths
          ? await openImage(paths[index], this.#setup.channels)
          : openPixels((this.#pixels as Pixels).image(sample));
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

  async #decode({ paths, into }: DecodeTask): Promise<TaskResult> {
    const sizes: [number, number][] = [];
    const failures: Failure[] = [];
    for (const [index, path] of paths.entries()) {
      try {
        const image = await decodeFile(path, this.#setup.channels);
        sizes.push([image.height, image.width]);
        into?.set(fitImage(image, this.#setup.prepare).data, index * this.#length);
      } catch (error) {
        if (!(error instanceof FileError)) throw error;
        sizes.push([0, 0]);
        failures.push({ index, error });
      }
    }
    return { failures, sizes };
  }

  #writeChanged(image: OpenImage, { spec, seed, epoch }: Changes, sample: number, into: Float32Array): void {
    const { prepare, channels } = this.#setup;
    const { size, fit } = prepare;
    const key = { seed, epoch, sample };
    // Padding gives room to move in; of other images those are brought to the square first that have more pixels than it.
    const first = fit === "pad" || (!spec.resizedCrop && image.height * image.width > size * size);
    const source = first ? openPixels(fitImage(image.part(), prepare)) : image;
    const changed = augmentImage(source, size, spec, key, this.#fill);
    this.#normaliser.write(first || spec.resizedCrop ? changed : fitImage(changed, prepare), into);
    if (spec.erase > 0) erase(into, [size, size, channels], spec, key);
  }
}
