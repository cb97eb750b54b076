import { noGrad } from "../autograd/mode.js";
import {
  type BatchData,
  type ImageSet,
  Loader,
  type LoaderOptions,
  type Preparation,
  range,
} from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { crossEntropy } from "../ops/index.js";
import { defaultGenerator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import { toDevice } from "./device_batch.js";
import { inPrecision, type Placement } from "./placement.js";
import { readAhead } from "./read_ahead.js";

export interface Evaluation {
  /** Shares from 0 to 1. */
  top1: number;
  top5: number;
  /** Mean cross-entropy, without smoothing. */
  loss: number;
  /** confusion[label][predicted], counts. */
  confusion: number[][];
  imagesPerSecond: number;
}

/** Images to evaluate on: all of a set, in its order. */
export class TestImages {
  readonly #loader: Loader;
  readonly #ahead: number;

  constructor(
    readonly set: ImageSet,
    prepare: Preparation,
    options: LoaderOptions,
  ) {
    this.#loader = new Loader(set, prepare, options);
    this.#ahead = options.workers ? (options.prefetch ?? 1) : 0;
  }

  async *batches(size: number): AsyncGenerator<BatchData> {
    const end = Math.ceil(this.set.count / size);
    const samples = (k: number) => range(k * size, Math.min(this.set.count, (k + 1) * size));
    const request = (k: number) => this.#loader.batch(samples(k));
    for await (const batch of readAhead({ begin: 0, end, ahead: this.#ahead }, request)) {
      yield batch;
      this.#loader.release(batch);
    }
  }

  dispose(): Promise<void> {
    return this.#loader.dispose();
  }
}

/**
 * Runs the model, which is on the device, over images, with everything random off. Leaves the model in training mode if it was.
 * @param onBatch is shown the logits [images, classes] of every batch
 */
export async function evaluate(
  model: QuadMamba,
  images: TestImages,
  { evalBatchSize, device, precision }: Placement & { evalBatchSize: number },
  onBatch: (logits: Float32Array) => void = () => {},
): Promise<Evaluation> {
  const classes = model.config.numClasses;
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const begun = performance.now();
  let [loss, top1, top5] = [0, 0, 0];
  const leave = enterEvaluation(model);
  try {
    for await (const data of images.batches(evalBatchSize)) {
      scope(() => {
        const batch = toDevice(data, device);
        const logits = noGrad(() => model.forward(inPrecision(batch.images, precision)));
        loss += crossEntropy(logits, batch.labels, { reduction: "sum" }).item();
        const rows = logits.toTypedArray() as Float32Array;
        data.labels.forEach((label, k) => {
          const row = rows.subarray(k * classes, (k + 1) * classes);
          let [best, place] = [0, 0]; // place: how many classes come before the label, as `rank` orders them
          row.forEach((value, c) => {
            if (value > row[best]) best = c;
            if (value > row[label] || (value === row[label] && c < label)) place++;
          });
          confusion[label][best]++;
          if (best === label) top1++;
          if (place < 5) top5++;
        });
        onBatch(rows);
      });
      await new Promise(setImmediate);
    }
  } finally {
    leave();
  }
  const seconds = (performance.now() - begun) / 1000;
  const { count } = images.set;
  return {
    top1: top1 / count,
    top5: top5 / count,
    loss: loss / count,
    confusion,
    imagesPerSecond: count / seconds,
  };
}

/**
 * Switches everything random off, and gives the way back. The generator goes back too: a model of the released semantics draws in
 * evaluation as well, and a run must not depend on when, or in which batches, it was evaluated.
 */
export function enterEvaluation(model: QuadMamba): () => void {
  const { training } = model;
  const { counter } = defaultGenerator;
  model.eval();
  return () => {
    model.train(training);
    defaultGenerator.counter = counter;
  };
}

/** Class numbers from the most to the least probable; ties to the lower number. */
export function rank(scores: ArrayLike<number>): number[] {
  return Array.from(scores, (_, k) => k).sort((a, b) => scores[b] - scores[a] || a - b);
}
