import { launch, launchInto } from "../ops/define.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireEntries, requireNumber } from "../util/check.js";

/**
 * Scales all gradients by min(1, maxNorm / (norm + 1e-6)), where norm is that of all of them together.
 * @returns the norm before, a scalar tensor; it is not read here, so that nothing waits for the device
 */
export function clipGradNorm(params: Iterable<Tensor>, maxNorm: number): Tensor {
  requireNumber("clipGradNorm", "maxNorm", maxNorm, 0);
  const grads = requireEntries("clipGradNorm", "params", params).flatMap(
    (t) => requireTensor("clipGradNorm", "a parameter", t).grad ?? [],
  );
  const [first] = grads;
  const spec = {
    shape: [],
    dtype: first?.dtype ?? "float32",
    device: first?.device ?? "cpu",
  } as const;
  const [norm] = launch("global_norm", grads, [spec]);
  if (grads.length > 0) launchInto("clip_scale", [norm], grads, [maxNorm]);
  return norm;
}
