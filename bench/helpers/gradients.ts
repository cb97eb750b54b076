import type { Tensor } from "../../lib/index.js";

/** Frees gradients that a timed backward has left. */
export function dropGradients(...tensors: readonly Tensor[]): void {
  for (const t of tensors) {
    t.grad?.dispose();
    t.grad = null;
  }
}
