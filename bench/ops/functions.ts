/** Functions of one number, on vectors that lie in the caches: what the formulas cost, not the memory. */
import { erf, exp, log, noGrad, sigmoid, softplus, tanh } from "../../lib/index.js";
import { type Cases, Inputs } from "../helpers/case.js";

const ELEMENTS = 2 ** 16;
const FUNCTIONS = { exp, log, tanh, erf, softplus, sigmoid };

export function* functions(): Cases {
  const inputs = new Inputs();
  const x = inputs.keep(() => inputs.random([ELEMENTS]).abs().add(0.1));
  for (const [name, fn] of Object.entries(FUNCTIONS))
    yield {
      group: "functions",
      name: `${name} ${ELEMENTS} float32`,
      run: () => noGrad(() => fn(x)),
      elements: ELEMENTS,
    };
  inputs.dispose();
}
