import type { Generator } from "../tensor/random.js";
import { requireAxis, sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireBoolean, requireNumber, requireOptions } from "../util/check.js";
import { ShapeError, show } from "../util/errors.js";
import { add, div } from "./arithmetic.js";
import { oneHot, randGumbel, requireGenerator } from "./create.js";
import { requireFloat, requireSameDType } from "./define.js";
import { argmax } from "./reduce.js";
import { transpose } from "./shape_ops.js";
import { softmax } from "./softmax.js";
import { straightThrough } from "./straight_through.js";

export interface GumbelSoftmaxOptions {
  /** Temperature, above 0. Default 1. */
  tau?: number;
  /** One-hot forward, gradient of the soft sample backward. Default false. */
  hard?: boolean;
  /** Default: the last. */
  axis?: number;
  /** What is added to the logits, of their shape, instead of drawn Gumbel noise; null for none. */
  noise?: Tensor | null;
  generator?: Generator;
}

/**
 * A sample from the categorical distribution of the logits, relaxed: softmax((logits + g) / tau) with Gumbel noise g
 * (Jang et al. 2017). With `hard` the one-hot of its largest entry, straight-through.
 */
export function gumbelSoftmax(logits: Tensor, options: GumbelSoftmaxOptions = {}): Tensor {
  const op = "gumbelSoftmax";
  requireTensor(op, "logits", logits);
  requireFloat(op, logits);
  requireOptions(op, options, ["tau", "hard", "axis", "noise", "generator"]);
  const axis = requireAxis(op, options.axis ?? -1, logits.rank);
  const tau = requireNumber(op, "tau", options.tau ?? 1, Number.MIN_VALUE);
  const hard = requireBoolean(op, "hard", options.hard ?? false);
  const { shape, dtype, device } = logits;
  const noise =
    options.noise === undefined
      ? randGumbel(shape, {
          dtype,
          device,
          generator: requireGenerator(op, options.generator),
        })
      : options.noise;
  if (noise) {
    requireTensor(op, "noise", noise);
    requireSameDType(op, logits, noise);
    if (!sameShape(noise.shape, shape))
      throw new ShapeError(op, "noise does not fit", show(shape), show(noise.shape));
  }
  const perturbed = noise ? add(logits, noise) : logits;
  const soft = softmax(tau === 1 ? perturbed : div(perturbed, tau), axis);
  if (!hard) return soft;
  const choice = oneHot(argmax(soft, axis), shape[axis], { dtype, device });
  return straightThrough(axis === logits.rank - 1 ? choice : moveLastTo(choice, axis), soft);
}

function moveLastTo(x: Tensor, axis: number): Tensor {
  let y = x;
  for (let k = x.rank - 1; k > axis; k--) y = transpose(y, k - 1, k);
  return y;
}
