import { noGrad } from "../autograd/mode.js";
import { batchOf, type ImageSet, type Preparation, range } from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { crossEntropy } from "../ops/index.js";
import { defaultGenerator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import { inPrecision, type Placement } from "./placement.js";

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

/** Runs the model, which is on the device, over a data set, with everything random off. Leaves the model in training mode if it was. */
export async function evaluate(
  model: QuadMamba,
  data: ImageSet,
  prepare: Preparation,
  { evalBatchSize: batchSize, device, precision }: Placement & { evalBatchSize: number },
  onBatch: (done: number) => void = () => {},
): Promise<Evaluation> {
  const classes = model.config.numClasses;
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const begun = performance.now();
  let [loss, top1, top5] = [0, 0, 0];
  const leave = enterEvaluation(model);
  try {
    for (let begin = 0; begin < data.count; begin += batchSize) {
      const end = Math.min(data.count, begin + batchSize);
      scope(() => {
        const { images, labels } = batchOf(data, range(begin, end), prepare, undefined, device);
        const logits = noGrad(() => model.forward(inPrecision(images, precision)));
        loss += crossEntropy(logits, labels, { reduction: "sum" }).item();
        const rows = logits.toTypedArray() as Float32Array;
        for (let k = 0; k < end - begin; k++) {
          const ranking = rank(rows.subarray(k * classes, (k + 1) * classes));
          const label = data.labels[begin + k];
          confusion[label][ranking[0]]++;
          if (ranking[0] === label) top1++;
          if (ranking.slice(0, 5).includes(label)) top5++;
        }
      });
      onBatch(end);
      await new Promise(setImmediate);
    }
  } finally {
    leave();
  }
  const seconds = (performance.now() - begun) / 1000;
  return {
    top1: top1 / data.count,
    top5: top5 / data.count,
    loss: loss / data.count,
    confusion,
    imagesPerSecond: data.count / seconds,
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
