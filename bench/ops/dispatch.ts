/** What a call costs by itself: ops on one element. */
import { add, neg } from "../../lib/index.js";
import { type Cases, Inputs } from "../helpers/case.js";

/** In one scope, as a step of training makes them. */
const CALLS = 100;

export function* dispatch(): Cases {
  const inputs = new Inputs();
  const [x, y] = [inputs.random([1]), inputs.random([1])];
  const call = (name: string, run: () => unknown) => ({
    group: "dispatch",
    name,
    run,
    inner: CALLS,
    elements: 1,
  });
  yield call("neg of 1 element", () => neg(x));
  yield call("add of 1 element", () => add(x, y));
  x.requiresGrad = true;
  yield call("add of 1 element, recorded for backward", () => add(x, y));
  inputs.dispose();
}
