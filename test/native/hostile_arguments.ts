/** Usual arguments of every export, so that a hostile value meets otherwise right ones. */
import * as qm from "../../lib/index.js";
import { table } from "../ops/table/index.js";
import { argumentsOf, arraysOf, type Run, tensorsOf } from "../ops/table/run.js";

/** Exports that are not called, with the reason. */
export const EXCLUDED: Record<string, string> = {
  Tensor: "takes over a native handle; programs use tensor() and its like",
  "nn.Module": "abstract",
};

const parameters = () => [qm.nn.parameter(qm.ones([2]))];
const double = (x: qm.Tensor) => qm.mul(x, 2);
const leaf = () => qm.ones([2, 3], { dtype: "float64", requiresGrad: true });
const config = () => ({ dims: 8, depths: [1, 1, 1, 1] as [number, number, number, number], numClasses: 3 });
/** One model for all calls: exporting leaves it as it is. */
let model: qm.QuadMamba | undefined;
const exported = (): qm.QuadMamba => {
  model ??= qm.createQuadMamba(config());
  return model;
};

const OTHERS: Record<string, () => unknown[]> = {
  grad: () => {
    const x = qm.ones([1], { requiresGrad: true });
    return [double(x), [x], {}];
  },
  checkpoint: () => [double, leaf()],
  gradcheck: () => [double, [leaf()], {}],
  noGrad: () => [() => 1],
  enableGrad: () => [() => 1],
  scope: () => [() => 1],
  profileMacs: () => [() => 1],
  defineOp: () => [
    { name: "x", infer: (inputs: qm.Tensor[]) => inputs[0], forward: (inputs: qm.Tensor[]) => inputs[0] },
  ],
  launch: () => [
    "add_fwd",
    [qm.ones([2]), qm.ones([2])],
    [{ shape: [2], dtype: "float32", device: "cpu" }],
    [],
  ],
  loadSafetensors: () => ["missing.safetensors"],
  saveSafetensors: () => ["hostile.safetensors", new Map([["x", qm.ones([2])]]), new Map([["k", "v"]])],
  createQuadMamba: () => [config()],
  exportOnnx: () => [exported(), { height: 32, width: 32 }],
  QuadMamba: () => [config()],
  AdamW: () => [parameters(), { lr: 0.1 }],
  Ema: () => [new qm.nn.Linear(3, 2), new qm.nn.Linear(3, 2), { decay: 0.9 }],
  SGD: () => [parameters(), { lr: 0.1 }],
  clipGradNorm: () => [parameters(), 1],
  cosineLr: () => [1, { lr: 0.1, totalSteps: 10 }],
  Generator: () => [1, 2],
  manualSeed: () => [1],
  setThreads: () => [2],
  "memory.setBudget": () => [2 ** 28],
  "nn.Linear": () => [3, 2, { bias: true }],
  "nn.Conv2d": () => [2, 3, 2, { stride: 1 }],
  "nn.LayerNorm": () => [3, { eps: 1e-5 }],
  "nn.Dropout": () => [0.5],
  "nn.Sequential": () => [new qm.nn.GELU(), double],
  "nn.parameter": () => [qm.ones([2])],
  "nn.copyInto": () => [qm.ones([2]), qm.ones([2])],
  "nn.init.zeros": () => [[2]],
  "nn.init.ones": () => [[2]],
  "nn.init.uniform": () => [0.1],
  "nn.init.uniformRange": () => [0, 1],
  "nn.init.truncatedNormal": () => [0.02, 2],
  "nn.init.fanIn": () => [3],
};

/** A function that makes fresh arguments for every call. Ops take them from a case of the op table. */
export function baseArguments(name: string): () => unknown[] {
  if (name in OTHERS) return OTHERS[name];
  const row = table.find(({ op }) => op === name);
  if (!row) return () => [];
  const c =
    row.cases.find(({ inputs }) =>
      inputs.every(
        (input) => input && input.shape.length > 0 && !input.shape.includes(0) && input.shape.length < 6,
      ),
    ) ?? row.cases[0];
  const run: Run = { row, c, dtype: (c.dtypes ?? row.dtypes)[0], device: "cpu" };
  return () => argumentsOf(run, tensorsOf(run, arraysOf(run)));
}
