/** A few ops of every kind against their references, from the op table; prints the instruction set in use. */
import { addonInfo } from "../../lib/native/addon.js";
import { expectClose } from "../helpers/compare.js";
import { table } from "../ops/table/index.js";
import { arraysOf, call, describeRun, type Run, reference, tensorsOf } from "../ops/table/run.js";
import { toleranceOf } from "../ops/table/tolerance.js";

const NAMES = [
  "matmul",
  "linear",
  "conv2d",
  "selectiveScan",
  "gelu",
  "erf",
  "softplus",
  "exp",
  "log",
  "softmax",
  "layerNorm",
  "sum",
  "crossEntropy",
];

for (const name of NAMES) {
  const row = table.find(({ op }) => op === name);
  if (!row) throw new Error(`${name} is not in the op table`);
  for (const c of row.cases)
    for (const dtype of ["float32", "float64"] as const) {
      const run: Run = { row, c, dtype, device: "cpu" };
      const arrays = arraysOf(run);
      const [got] = call(run, tensorsOf(run, arrays));
      const [want] = reference(run, arrays);
      if (want.data.some(Number.isNaN)) continue;
      expectClose(describeRun(run), got, want, toleranceOf(run, arrays, want, 0, dtype));
    }
}
console.log(addonInfo.isa);
