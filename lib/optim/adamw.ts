import { launchInto } from "../ops/define.js";
import type { Tensor } from "../tensor/tensor.js";
import { requireOptions } from "../util/check.js";
import { ArgumentError, show } from "../util/errors.js";
import { Optimizer, type ParameterGroup, requireRate } from "./optimizer.js";

export interface AdamWOptions {
  /** Default 1e-3. */
  lr: number;
  /** Decay of the two running moments. Default [0.9, 0.999]. */
  betas: [number, number];
  /** Default 1e-8. */
  eps: number;
  /** Decoupled: p shrinks by lr weightDecay per step. Default 0.01. */
  weightDecay: number;
}
const DEFAULTS: AdamWOptions = {
  lr: 1e-3,
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0.01,
};

/**
 * AdamW (Loshchilov & Hutter 2019): m and v are running means of g and g^2, p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps),
 * with decay apart from the gradient. One kernel for all parameters of a group.
 */
export class AdamW extends Optimizer<AdamWOptions> {
  constructor(
    params: Iterable<Tensor> | Iterable<ParameterGroup<AdamWOptions>>,
    options: Partial<AdamWOptions> = {},
  ) {
    requireOptions("AdamW", options, Object.keys(DEFAULTS));
    super("AdamW", params, { ...DEFAULTS, ...options }, ["m", "v"]);
  }

  protected check({ lr, betas, eps, weightDecay }: AdamWOptions): void {
    requireRate("AdamW", "lr", lr);
    requireRate("AdamW", "eps", eps);
    requireRate("AdamW", "weightDecay", weightDecay);
    if (!Array.isArray(betas) || betas.length !== 2 || !betas.every((b) => b >= 0 && b < 1))
      throw new ArgumentError("AdamW", "betas are not valid", "two numbers from 0 to below 1", show(betas));
  }

  protected ratesOf({ lr, betas: [b1, b2] }: AdamWOptions): number[] {
    return [lr, 1 - b1 ** this.steps, 1 - b2 ** this.steps];
  }

  protected update(
    { betas: [b1, b2], eps, weightDecay }: AdamWOptions,
    rates: Tensor,
    gate: Tensor | null,
    params: Tensor[],
    grads: Tensor[],
    [m, v]: Tensor[][],
  ): void {
    launchInto("adamw_step", [rates, gate, ...grads], [...params, ...m, ...v], [b1, b2, eps, weightDecay]);
  }
}
