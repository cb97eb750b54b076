/** Where the first number that is not finite came from, in a step whose loss or gradient is not finite. */
import type { Node } from "../autograd/node.js";
import { watchOps } from "../autograd/watch.js";
import type { BatchData } from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { cast } from "../ops/index.js";
import { currentModule, profileMacs } from "../ops/profile.js";
import { clipGradNorm } from "../optim/index.js";
import { scope } from "../tensor/scope.js";
import { isDifferentiable } from "../tensor/dtype.js";
import { describe, type Device, isTensor, type Tensor } from "../tensor/tensor.js";
import { QuadMambaError } from "../util/errors.js";
import { toDevice } from "./device_batch.js";
import { computeGradients, type GradientOptions } from "./gradients.js";

class Found extends Error {}

/**
 * Repeats forward and backward op by op, reading every result, and describes the first tensor with elements that are not finite.
 * The default generator must stand where it stood before the step. Changes nothing.
 */
export function findFault(
  model: QuadMamba,
  batch: BatchData,
  options: GradientOptions & { device: Device },
): string {
  try {
    scope(() => replay(model, batch, options));
    return "a replay of the step found finite numbers only, so look for faults of the hardware or its driver";
  } catch (error) {
    if (error instanceof Found) return error.message;
    if (error instanceof QuadMambaError) return `a replay of the step failed: ${error.message}`;
    throw error;
  } finally {
    model.zeroGrad();
  }
}

function replay(model: QuadMamba, data: BatchData, options: GradientOptions & { device: Device }): void {
  const names = new Map([...model.namedParameters()].map(([name, t]) => [t, name]));
  const batch = toDevice(data, options.device);
  requireFinite(() => "the images are not finite", batch.images);
  for (const [t, name] of names) requireFinite(() => `parameter ${name} is not finite`, t);
  const modules = new WeakMap<object, string>();
  const placeOf = (op: string, module: string): string => (module ? `${op} in ${module}` : op);
  const watch = {
    forward(op: string, inputs: readonly (Tensor | null)[], output: Tensor): void {
      if (output.node) modules.set(output.node, currentModule());
      requireFinite(
        () => `first in forward, ${placeOf(op, currentModule())}, from inputs up to ${largest(inputs)}`,
        output,
      );
    },
    backward(node: Node, gradients: readonly (Tensor | null)[]): void {
      const place = placeOf(node.op, modules.get(node) ?? "");
      gradients.forEach((gradient, k) => {
        const edge = node.edges[k];
        const name = isTensor(edge) ? names.get(edge) : undefined;
        if (gradient)
          requireFinite(
            () => `first in backward, ${place}, the gradient of ${name ?? `its input ${k + 1}`}`,
            gradient,
          );
      });
    },
  };
  watchOps(watch, () => profileMacs(() => model.withNames(() => computeGradients(model, batch, options))));
  requireFinite(() => "the norm of all gradients overflows", clipGradNorm(model.parameters(), 1));
}

/** @throws {Found} with the elements that are not finite, if there are any */
function requireFinite(what: () => string, t: Tensor): void {
  const values = numbersOf(t);
  const count = values.reduce((n, value) => n + (Number.isFinite(value) ? 0 : 1), 0);
  if (count === 0) return;
  const first = values.findIndex((value) => !Number.isFinite(value));
  throw new Found(
    `${what()}: ${describe(t)} has ${count} elements that are not finite, the first ${values[first]} at ${first}`,
  );
}

/** The largest magnitude among the elements of floating tensors. */
function largest(tensors: readonly (Tensor | null)[]): string {
  let most = 0;
  for (const t of tensors) if (t) most = numbersOf(t).reduce((a, b) => Math.max(a, Math.abs(b)), most);
  return most.toPrecision(3);
}

/** The elements of a floating tensor; none of another. */
function numbersOf(t: Tensor): Float64Array {
  if (!isDifferentiable(t.dtype)) return new Float64Array();
  return scope(() => cast(t.detach(), "float64").toTypedArray() as Float64Array);
}
