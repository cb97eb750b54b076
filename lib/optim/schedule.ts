import { requireInteger, requireNumber, requireOptions } from "../util/check.js";

export interface CosineSchedule {
  /** Peak learning rate. */
  lr: number;
  /** Where the cosine ends. Default 0. */
  minLr?: number;
  /** Where the warm-up starts. Default 0. */
  warmupLr?: number;
  warmupSteps?: number;
  totalSteps: number;
}

/**
 * Learning rate of a step, counted from 0: linear from `warmupLr` to `lr` over the warm-up (whose last
 * step has it already), then half a cosine down to `minLr` at `totalSteps`.
 */
export function cosineLr(step: number, schedule: CosineSchedule): number {
  const op = "cosineLr";
  requireOptions(op, schedule ?? null, ["lr", "minLr", "warmupLr", "warmupSteps", "totalSteps"]);
  const { lr, minLr = 0, warmupLr = 0, warmupSteps = 0, totalSteps } = schedule;
  requireInteger(op, "step", step, 0);
  requireInteger(op, "totalSteps", totalSteps, 1);
  requireInteger(op, "warmupSteps", warmupSteps, 0);
  for (const [name, value] of Object.entries({ lr, minLr, warmupLr })) requireNumber(op, name, value, 0);
  if (step < warmupSteps) return warmupLr + ((lr - warmupLr) * (step + 1)) / warmupSteps;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
  return minLr + (lr - minLr) * 0.5 * (1 + Math.cos(Math.PI * progress));
}
