import { cosineLr } from "../optim/index.js";
import type { TrainConfig } from "./config.js";

/** By what the recipe's learning rates are multiplied for its batch size. */
export function learningRateScale({ batchSize, lrBatchSize }: TrainConfig): number {
  return batchSize / (lrBatchSize ?? batchSize);
}

/** Learning rate of a step, counted from 0: the recipe's warm-up and cosine, for its batch size. */
export function learningRate(config: TrainConfig, stepsPerEpoch: number): (step: number) => number {
  const scale = learningRateScale(config);
  const schedule = {
    lr: scale * config.lr,
    minLr: scale * config.minLr,
    warmupLr: scale * config.warmupLr,
    warmupSteps: warmupSteps(config, stepsPerEpoch),
    totalSteps: stepsPerEpoch * config.epochs,
  };
  return (step) => cosineLr(step, schedule);
}

function warmupSteps({ warmup, epochs }: TrainConfig, stepsPerEpoch: number): number {
  return Math.round(
    (typeof warmup === "number" ? warmup * epochs : Number.parseFloat(warmup)) * stepsPerEpoch,
  );
}
