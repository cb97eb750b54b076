/** Initial values of parameters. All draws come from one generator, in the order in which a model is built. */
import { add, clamp, full, mul, rand, randn, sub } from "../ops/index.js";
import { initGenerator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Shape } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { requireInteger, requireNumber } from "../util/check.js";

export type Initializer = (shape: Shape) => Tensor;

export const zeros: Initializer = (shape) => full(shape, 0);
export const ones: Initializer = (shape) => full(shape, 1);

/** Uniform in [-bound, bound). */
export function uniform(bound: number): Initializer {
  requireNumber("uniform", "bound", bound, 0);
  return (shape) => scope(() => mul(sub(rand(shape, { generator: initGenerator }), 0.5), 2 * bound));
}

/** Normal, cut at +-cut (which is far out: a cut of 2 at a deviation of 0.02). */
export function truncatedNormal(std: number, cut: number): Initializer {
  requireNumber("truncatedNormal", "std", std, 0);
  requireNumber("truncatedNormal", "cut", cut, 0);
  return (shape) => scope(() => clamp(mul(randn(shape, { generator: initGenerator }), std), -cut, cut));
}

/** Uniform in [low, high). */
export function uniformRange(low: number, high: number): Initializer {
  requireNumber("uniformRange", "low", low);
  requireNumber("uniformRange", "high", high, low);
  return (shape) => scope(() => add(mul(rand(shape, { generator: initGenerator }), high - low), low));
}

/** The usual default of linear and convolution weights and biases: uniform with bound 1 / sqrt(fan-in). */
export function fanIn(inputs: number): Initializer {
  requireInteger("fanIn", "inputs", inputs, 1);
  return uniform(1 / Math.sqrt(inputs));
}
