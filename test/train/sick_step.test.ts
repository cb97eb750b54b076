/** A step whose numbers are not finite is traced to its first op and tensor. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createQuadMamba, manualSeed, memory, type QuadMamba, type Tensor } from "../../lib/index.js";
import { findFault } from "../../lib/train/sick_step.js";
import { writeTypedArray } from "../../lib/tensor/tensor.js";

const sick = suite("sick step");
const OPTIONS = { device: "cpu", precision: "fp32", labelSmoothing: 0.1, accumulate: 1 } as const;

function tinyModel(): QuadMamba {
  manualSeed(1);
  return createQuadMamba({ dims: 8, depths: [1, 1, 1, 1], inChannels: 1, numClasses: 4 });
}

function batchOf(count: number) {
  const pixels = Float32Array.from({ length: count * 16 * 16 }, (_, k) => Math.sin(k));
  const labels = Int32Array.from({ length: count }, (_, k) => k % 4);
  return { pixels, shape: [count, 16, 16, 1] as [number, number, number, number], labels };
}

/** Overwrites a parameter's elements. */
function plant(model: QuadMamba, name: string, valueAt: (k: number) => number): void {
  const t = model.namedParameters().get(name) as Tensor;
  writeTypedArray(
    "plant",
    t,
    Float32Array.from({ length: t.size }, (_, k) => valueAt(k)),
  );
}

function faultOf(prepare: (model: QuadMamba, batch: ReturnType<typeof batchOf>) => void, count = 2): string {
  const before = memory.liveTensors;
  const model = tinyModel();
  const batch = batchOf(count);
  prepare(model, batch);
  const fault = findFault(model, batch, OPTIONS);
  model.dispose();
  assert.ok(memory.liveTensors <= before, "tensors were left behind");
  return fault;
}

sick("in the images", () => {
  const fault = faultOf((_, { pixels }) => {
    pixels[300] = Number.NaN;
  });
  assert.match(
    fault,
    /^the images are not finite: .* has 1 elements that are not finite, the first NaN at 300$/,
  );
});

sick("in a parameter", () => {
  const fault = faultOf((model) =>
    plant(model, "layers.2.blocks.0.mlp.fc1.bias", (k) => (k === 3 ? Infinity : 0)),
  );
  assert.match(fault, /^parameter layers\.2\.blocks\.0\.mlp\.fc1\.bias is not finite: .*Infinity at 3$/);
});

sick("overflow of an op in forward, by the name of its module", () => {
  const fault = faultOf((model) => plant(model, "layers.1.blocks.0.op.out_proj.weight", () => 3e38));
  assert.match(
    fault,
    /^first in forward, \w+ in layers\.1\.blocks\.0\.op\.out_proj, from inputs up to 3\.00e\+38/,
  );
});

sick("an infinite step size of the scan", () => {
  const fault = faultOf((model) => {
    plant(model, "layers.3.blocks.0.op.dt_projs_bias", () => 3e38);
    plant(model, "layers.3.blocks.0.op.x_proj_weight", () => 1e4);
  });
  assert.match(fault, /^first in forward, \w*[sS]can in layers\.3\.blocks\.0\.op, /);
});

sick("overflow in backward, by the op and the parameter or input", () => {
  const fault = faultOf((model) => {
    plant(model, "classifier.norm.weight", () => 0);
    plant(model, "classifier.head.weight", (k) => (k < 64 ? 3e38 : -3e38));
  }, 1);
  assert.match(fault, /^first in backward, \w+ in classifier\.head, the gradient of its input 1/);
});

sick("a fault that does not repeat says so, and nothing stays behind in the gradients", () => {
  const model = tinyModel();
  assert.match(findFault(model, batchOf(2), OPTIONS), /finite numbers only/);
  assert.ok(model.parameters().every((t) => t.grad === null));
  model.dispose();
});

sick.run();
