export { type Checkpoint, loadCheckpoint, modelOf, type Weights } from "./checkpoint.js";
export {
  readConfigFile,
  resolveTrainConfig,
  type TrainConfig,
  type TrainOptions,
} from "./config.js";
export { consoleReport } from "./console_report.js";
export { type Evaluation, evaluate } from "./evaluate.js";
export { modelCosts, modelTable } from "./model_summary.js";
export type { StepReport, TrainObserver } from "./observer.js";
export type { TrainResult } from "./run.js";
export { type TrainRequest, train } from "./trainer.js";
