import { scope } from "../tensor/scope.js";
import { fromTypedArray, isTensor, requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireFunction, requireNumber, requireOptions } from "../util/check.js";
import { ArgumentError, AutogradError, DTypeError, show } from "../util/errors.js";
import { grad } from "./backward.js";
import { noGrad } from "./mode.js";

export interface GradcheckOptions {
  /** Step of the central differences. Default 1e-6. */
  eps?: number;
  /** Allowed difference: atol + rtol |numeric|. Defaults 1e-6 and 1e-7. */
  rtol?: number;
  atol?: number;
}

/**
 * Compares the gradients of `fn` with central differences, over its full Jacobian.
 * @param fn      a function of the inputs that returns one tensor; called 2n + 1 times for n input elements
 * @param inputs  float64 tensors; those that require no gradient are held fixed
 * @returns true; otherwise throws
 * @throws {AutogradError} naming the first entry that differs, with both values
 */
export function gradcheck(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): boolean {
  const op = "gradcheck";
  requireFunction(op, "fn", fn);
  requireOptions(op, options, ["eps", "rtol", "atol"]);
  const eps = requireNumber(op, "eps", options.eps ?? 1e-6, Number.MIN_VALUE);
  const rtol = requireNumber(op, "rtol", options.rtol ?? 1e-6, 0);
  const atol = requireNumber(op, "atol", options.atol ?? 1e-7, 0);
  if (!Array.isArray(inputs))
    throw new ArgumentError(op, "inputs are not valid", "an array of tensors", show(inputs));
  const checked = inputs.filter((t) => requireTensor(op, "input", t).requiresGrad);
  if (checked.length === 0)
    throw new AutogradError(op, "no input requires a gradient", "requiresGrad on at least one");
  for (const t of checked)
    if (t.dtype !== "float64") throw new DTypeError(op, "an input is not float64", "float64", t.dtype);

  scope(() => {
    const output = fn(...inputs);
    if (!isTensor(output)) throw new ArgumentError(op, "fn returned no tensor", "a Tensor", show(output));
    const analytic = jacobianRows(output, checked);
    checked.forEach((input, which) => {
      const values = input.toTypedArray() as Float64Array;
      for (let column = 0; column < values.length; column++) {
        const at = (delta: number): Float64Array => evaluate(fn, inputs, input, values, column, delta);
        const [up, down] = [at(eps), at(-eps)];
        for (let row = 0; row < up.length; row++) {
          const numeric = (up[row] - down[row]) / (2 * eps);
          const exact = analytic[row][which]?.[column] ?? 0;
          if (!(Math.abs(exact - numeric) <= atol + rtol * Math.abs(numeric)))
            throw new AutogradError(
              op,
              `d output[${row}] / d input ${inputs.indexOf(input)}[${column}] is wrong`,
              `${numeric} (central difference)`,
              `${exact}`,
            );
        }
      }
    });
  });
  return true;
}

/** One row per output element: its gradient with respect to each input. */
function jacobianRows(output: Tensor, inputs: readonly Tensor[]): (Float64Array | null)[][] {
  const unit = new Float64Array(output.size);
  return Array.from(unit, (_, row) => {
    unit.fill(0);
    unit[row] = 1;
    return scope(() => {
      const gradient = fromTypedArray("gradcheck", unit, {
        shape: output.shape,
        dtype: "float64",
        device: output.device,
      });
      return grad(output, inputs, { gradient, retainGraph: true }).map((g) =>
        g ? (g.toTypedArray() as Float64Array) : null,
      );
    });
  });
}

/** The outputs with one input element moved. */
function evaluate(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  input: Tensor,
  values: Float64Array,
  column: number,
  delta: number,
): Float64Array {
  return scope(() => {
    const moved = values.slice();
    moved[column] += delta;
    const replaced = fromTypedArray("gradcheck", moved, input);
    const output = noGrad(() => fn(...inputs.map((t) => (t === input ? replaced : t))));
    return output.toTypedArray() as Float64Array;
  });
}
