export { AdamW, type AdamWOptions } from "./adamw.js";
export { clipGradNorm } from "./clip.js";
export { Ema, type EmaOptions } from "./ema.js";
export type { ParameterGroup } from "./optimizer.js";
export { type CosineSchedule, cosineLr } from "./schedule.js";
export { SGD, type SGDOptions } from "./sgd.js";
