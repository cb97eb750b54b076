/** Initial values of the model (those of Mamba and VMamba). */
import { GeluLinear, init, Linear, parameter } from "../../nn/index.js";
import { add, exp, log, mul, tensor } from "../../ops/index.js";
import { scope } from "../../tensor/scope.js";
import type { Tensor } from "../../tensor/tensor.js";

const NARROW = { initWeight: init.truncatedNormal(0.02, 2), initBias: init.zeros };

/** A linear layer with normal weights of deviation 0.02 and zero bias. */
export function dense(inFeatures: number, outFeatures: number, bias = true): Linear {
  return new Linear(inFeatures, outFeatures, { bias, ...NARROW });
}

/** The same of a GELU. */
export function geluDense(inFeatures: number, outFeatures: number): GeluLinear {
  return new GeluLinear(inFeatures, outFeatures, NARROW);
}

/** A_logs [channels, states]: log(1..states) in every row, so that A = -1, ..., -states. */
export function stateRates(channels: number, states: number): Tensor {
  return parameter(
    tensor(
      Float32Array.from({ length: channels * states }, (_, k) => Math.log((k % states) + 1)),
      [channels, states],
    ),
  );
}

/** Biases of dt, [directions, channels]: inverse softplus of a step that is log-uniform in [0.001, 0.1]. */
export function stepBias(directions: number, channels: number): Tensor {
  const [low, high] = [0.001, 0.1].map(Math.log);
  return parameter(
    scope(() => {
      const step = exp(init.uniformRange(low, high)([directions, channels]));
      // softplus^-1(s) = s + log(1 - e^-s); the floor of 1e-4 lies below the range
      return add(step, log(add(mul(exp(mul(step, -1)), -1), 1)));
    }),
  );
}
