import type { QuadMamba } from "../models/quadmamba/model.js";
import { add, argmax, cast, crossEntropy, eq, mul, sum } from "../ops/index.js";
import { scope } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { type DeviceBatch, partOf } from "./device_batch.js";
import { inPrecision, type Precision } from "./placement.js";

export interface GradientOptions {
  labelSmoothing: number;
  precision: Precision;
  /** Equal parts that the batch is computed in, one after the other; each keeps its activations only until its own backward. */
  accumulate: number;
}

export interface BatchLoss {
  /** Mean over the batch. */
  loss: Tensor;
  /** Samples whose most probable class is their label. */
  correct: Tensor;
}

/**
 * Adds the gradients of the batch's mean loss to the parameters' `grad`. In parts they are the same within rounding; what the model
 * draws at random is drawn for each part.
 */
export function computeGradients(
  model: QuadMamba,
  batch: DeviceBatch,
  { labelSmoothing, precision, accumulate }: GradientOptions,
): BatchLoss {
  const run = ({ images, labels, targets }: DeviceBatch): BatchLoss => {
    const logits = model.forward(inPrecision(images, precision));
    const whole = targets
      ? crossEntropy(logits, targets)
      : crossEntropy(logits, labels, { smoothing: labelSmoothing });
    const loss = accumulate > 1 ? mul(whole, 1 / accumulate) : whole;
    loss.backward();
    const correct = sum(eq(argmax(logits, 1), cast(labels, "int64")));
    return { loss: loss.detach(), correct };
  };
  if (accumulate === 1) return run(batch);
  const size = batch.labels.size / accumulate;
  return Array.from({ length: accumulate }, (_, k) =>
    scope(() => run(partOf(batch, k * size, (k + 1) * size))),
  ).reduce((a, b) => ({ loss: add(a.loss, b.loss), correct: add(a.correct, b.correct) }));
}
