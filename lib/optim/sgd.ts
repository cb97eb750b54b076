import { launchInto } from "../ops/define.js";
import type { Tensor } from "../tensor/tensor.js";
import { requireBoolean, requireOptions } from "../util/check.js";
import { Optimizer, type ParameterGroup, requireRate } from "./optimizer.js";

export interface SGDOptions {
  /** Default 0.01. */
  lr: number;
  /** Default 0. */
  momentum: number;
  /** Added to the gradient as weightDecay p. Default 0. */
  weightDecay: number;
  /** Look ahead along the momentum. Default false. */
  nesterov: boolean;
}
const DEFAULTS: SGDOptions = {
  lr: 0.01,
  momentum: 0,
  weightDecay: 0,
  nesterov: false,
};

/** g += decay p; b = momentum b + g; p -= lr b (Nesterov: lr (g + momentum b)). */
export class SGD extends Optimizer<SGDOptions> {
  constructor(
    params: Iterable<Tensor> | Iterable<ParameterGroup<SGDOptions>>,
    options: Partial<SGDOptions> = {},
  ) {
    requireOptions("SGD", options, Object.keys(DEFAULTS));
    super("SGD", params, { ...DEFAULTS, ...options }, ["momentum"]);
  }

  protected check({ lr, momentum, weightDecay, nesterov }: SGDOptions): void {
    requireRate("SGD", "lr", lr);
    requireRate("SGD", "momentum", momentum, 1);
    requireRate("SGD", "weightDecay", weightDecay);
    requireBoolean("SGD", "nesterov", nesterov);
  }

  protected ratesOf({ lr }: SGDOptions): number[] {
    return [lr];
  }

  protected update(
    { momentum, weightDecay, nesterov }: SGDOptions,
    rates: Tensor,
    gate: Tensor | null,
    params: Tensor[],
    grads: Tensor[],
    [buffers]: Tensor[][],
  ): void {
    // Buffers start as zeros, so the first step needs no case of its own.
    const attrs = [momentum, weightDecay, Number(nesterov)];
    launchInto("sgd_step", [rates, gate, ...grads], [...params, ...buffers], attrs);
  }
}
