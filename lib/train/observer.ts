import type { DataSource } from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import type { TrainConfig } from "./config.js";
import type { Evaluation } from "./evaluate.js";

/** What a run tells its observer. */
export interface TrainObserver {
  begin?(run: {
    config: TrainConfig;
    data: DataSource;
    model: QuadMamba;
    folder: string;
    steps: number;
    resumedAt: number;
  }): void;
  step?(at: StepReport): void;
  epoch?(at: {
    epoch: number;
    trainLoss: number;
    trainAccuracy: number;
    test: Evaluation;
    /** Of the moving average of the weights, where there is one. */
    ema: Evaluation | undefined;
    /** Whether the accuracies are the best so far. */
    best: boolean;
    bestEma: boolean;
  }): void;
  saved?(path: string): void;
  warning?(message: string): void;
}
export interface StepReport {
  /** Steps taken, of `steps` in all. */
  step: number;
  steps: number;
  epoch: number;
  /** Position within the epoch, and its length, in steps. */
  position: number;
  stepsPerEpoch: number;
  /** Images of a step. */
  batchSize: number;
  /** Means over the epoch so far. */
  loss: number;
  accuracy: number;
  lr: number;
  gradNorm: number;
  /** Over the last steps. */
  imagesPerSecond: number;
  /** Share of the time in which the run waited for its next batch. */
  dataShare: number;
}
