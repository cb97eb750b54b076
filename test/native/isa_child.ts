/** A few ops of every kind against their references, from the op table; prints the instruction set in use. */
import * as ops from "../../lib/ops/index.js";
import { addonInfo } from "../../lib/native/addon.js";
import type { Tensor } from "../../lib/tensor/tensor.js";
import { expectNormwise, values } from "../helpers/compare.js";
import { fill, toTensor } from "../helpers/inputs.js";
import { Random } from "../helpers/random.js";
import { table } from "../ops/table/index.js";

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
      const random = new Random(name);
      const arrays = c.inputs.map((input) => input && fill(input, input.dtype ?? dtype, random));
      const tensors = c.inputs.map((input, k) => input && toTensor(arrays[k] as never, input.dtype ?? dtype));
      const args = row.args ? row.args(tensors, c.extra ?? [], dtype) : [...tensors, ...(c.extra ?? [])];
      const got = (ops as unknown as Record<string, (...args: unknown[]) => Tensor>)[name](...args);
      const [want] = [row.reference(arrays as never, ...(c.extra ?? []))].flat();
      if (want.data.some(Number.isNaN)) continue;
      // sums near 0 and layer norms far from it lose most
      const limit = c.tolerance ? 1e-3 : dtype === "float32" ? 1e-5 : 1e-12;
      expectNormwise(`${name} ${JSON.stringify(c).slice(0, 200)} in ${dtype}`, values(got), want.data, limit);
    }
}
console.log(addonInfo.isa);
