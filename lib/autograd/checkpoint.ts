import { defaultGenerator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import { isTensor, requireTensor, retain, type Tensor } from "../tensor/tensor.js";
import { requireFunction } from "../util/check.js";
import { ArgumentError, show } from "../util/errors.js";
import { enableGrad, gradEnabled, noGrad } from "./mode.js";
import { type Edge, Node, nodeOf } from "./node.js";

/**
 * Runs `fn` without keeping its intermediate results, and runs it again in backward to have them: memory for time.
 * Parameters that `fn` reaches by closure get their gradients too. Draws of the default generator repeat in the second run.
 * @param fn a function of the given tensors that returns one tensor
 */
export function checkpoint(fn: (...inputs: Tensor[]) => Tensor, ...inputs: Tensor[]): Tensor {
  requireFunction("checkpoint", "fn", fn);
  for (const t of inputs) requireTensor("checkpoint", "input", t);
  if (!gradEnabled()) return fn(...inputs);
  const { seed, counter } = defaultGenerator;
  const output = scope(() => noGrad(() => fn(...inputs)));
  if (!isTensor(output))
    throw new ArgumentError("checkpoint", "fn returned no tensor", "a Tensor", show(output));
  const saved = inputs.map((t) => retain(t, "checkpoint"));
  const needs = inputs.map((t) => t.requiresGrad);
  const rule = (dy: Tensor): (Tensor | null)[] => {
    const after = {
      seed: defaultGenerator.seed,
      counter: defaultGenerator.counter,
    };
    Object.assign(defaultGenerator, { seed, counter });
    try {
      return enableGrad(() => {
        const leaves = saved.map((t, k) => {
          const leaf = t.detach();
          leaf.requiresGrad = needs[k];
          return leaf;
        });
        const again = fn(...leaves);
        if (again.requiresGrad) again.backward(dy);
        return leaves.map((leaf) => {
          const g = leaf.grad;
          leaf.grad = null;
          return g;
        });
      });
    } finally {
      Object.assign(defaultGenerator, after);
    }
  };
  output.node = new Node(
    "checkpoint",
    inputs.map((t): Edge => (t.requiresGrad ? (nodeOf(t) ?? t) : null)),
    inputs.map(({ shape }) => ({ shape })),
    saved,
    rule,
  );
  output.requiresGrad = true;
  return output;
}
