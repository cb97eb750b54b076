import { Module } from "../nn/module.js";
import { launchInto } from "../ops/define.js";
import { sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireNumber, requireOptions } from "../util/check.js";
import { ArgumentError, ConfigError, show } from "../util/errors.js";

export interface EmaOptions {
  /** Share of the mean that stays from one step to the next. Default 0.9999. */
  decay: number;
}

/**
 * Exponential moving average of a module's tensors, which often evaluates better than the module itself: after every step
 * mean += (1 - decay) (x - mean), in one kernel for all of them.
 */
export class Ema {
  readonly #decay: number;
  readonly #sources: Tensor[] = [];
  readonly #means: Tensor[] = [];

  /**
   * @param module   what is trained
   * @param average  one of the same make, whose tensors are the means from now on: it should start with the weights of `module`
   */
  constructor(module: Module, average: Module, options: Partial<EmaOptions> = {}) {
    for (const [what, value] of Object.entries({ module, average }))
      if (!(value instanceof Module))
        throw new ArgumentError("Ema", `${what} is not a module`, "an nn.Module", show(value));
    requireOptions("Ema", options, ["decay"]);
    this.#decay = requireNumber("Ema", "decay", options.decay ?? 0.9999, 0, 1);
    const means = average.stateDict();
    for (const [name, source] of module.stateDict()) {
      const mean = means.get(name);
      if (
        !mean ||
        mean.dtype !== source.dtype ||
        mean.device !== source.device ||
        !sameShape(mean.shape, source.shape)
      )
        throw new ConfigError(
          "Ema",
          `${name} of the average does not fit`,
          `${source.dtype} ${show(source.shape)} on ${source.device}`,
          mean ? `${mean.dtype} ${show(mean.shape)} on ${mean.device}` : "nothing",
        );
      this.#sources.push(source);
      this.#means.push(mean);
    }
  }

  /** @param options `gate`: nothing is changed if this tensor of one element (such as the gradients' norm) is not finite */
  step(options: { gate?: Tensor | null } = {}): void {
    requireOptions("Ema.step", options, ["gate"]);
    const { gate = null } = options;
    if (gate) requireTensor("Ema.step", "gate", gate);
    launchInto("ema_step", [gate, ...this.#sources], this.#means, [this.#decay]);
  }
}
