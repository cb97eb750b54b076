/** Choices of windows as straight-through tensors: one-hot going forward, soft coming back. */
import { add, gumbelSoftmax, indexSelect, mul, sub } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";

/** Added to the logit of a window that cannot be chosen: its probability is exactly 0, and so is its gradient. */
const NEVER = -1e30;

/**
 * The `count` best windows, [batch, windows] of ones and zeros. They are chosen one after the other, each by a hard softmax
 * (straight-through, temperature 1) over those that are left; the gradient is that of the sum of these softmaxes. With Gumbel
 * noise in the logits this draws without replacement (the Gumbel top-k trick, Kool et al. 2019).
 */
export function chooseWindows(logits: Tensor, count: number): Tensor {
  let left = logits;
  let latest = gumbelSoftmax(left, { hard: true, noise: null });
  let chosen = latest;
  for (let k = 1; k < count; k++) {
    left = add(left, mul(latest.detach(), NEVER));
    latest = gumbelSoftmax(left, { hard: true, noise: null });
    chosen = add(chosen, latest);
  }
  return chosen;
}

/**
 * Logits of a level's windows, but only of those whose window of the level above is divided.
 * @param divided [batch, windows above], of ones and zeros  @param parents windows -> windows above
 */
export function within(logits: Tensor, divided: Tensor, parents: Tensor): Tensor {
  return add(logits, mul(sub(1, indexSelect(divided.detach(), 1, parents)), NEVER));
}
