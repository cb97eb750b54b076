/** Training on a GPU: the CPU's loss curve in float32, and the same bits every time. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { on } from "../helpers/devices.js";
import { type TinyOptions, TinyTraining } from "../helpers/tiny_training.js";

const training = suite("training on a GPU");

function losses(options: TinyOptions, steps: number): number[] {
  const run = new TinyTraining(options);
  const curve = Array.from({ length: steps }, () => run.step());
  run.dispose();
  return curve;
}

// parameters moved by 1e-6 of themselves move the losses of 100 steps by 1e-5 (ten runs)
on(training, "cuda", "the loss curve of 100 steps is the CPU's in float32", () => {
  const [cpu, cuda] = (["cpu", "cuda"] as const).map((device) => losses({ device }, 100));
  cpu.forEach((want, step) => {
    const error = Math.abs(cuda[step] - want) / want;
    assert.ok(
      error <= 1e-4,
      `step ${step}: ${cuda[step]}, on the CPU ${want}, ${error.toExponential(1)} apart`,
    );
  });
  assert.ok(cpu[99] < 0.1 * cpu[0], `the model learns: from ${cpu[0]} to ${cpu[99]}`);
});

on(training, "cuda", "bfloat16 learns it too", () => {
  const curve = losses({ device: "cuda", dtype: "bfloat16" }, 100);
  assert.ok(curve.every(Number.isFinite));
  assert.ok(curve[99] < 0.1 * curve[0], `from ${curve[0]} to ${curve[99]}`);
});

/** SHA-256 of the parameters after 20 steps, of which those past the third may be replays of a graph. */
function hashOf(options: TinyOptions, recorded: boolean): string {
  const run = new TinyTraining(options);
  for (let k = 0; k < 20; k++) {
    if (recorded && k === 3) run.record();
    run.step();
  }
  const hash = run.hash();
  run.dispose();
  return hash;
}

for (const dtype of ["float32", "bfloat16"] as const) {
  on(training, "cuda", `${dtype}: equal hashes after 20 steps in 5 runs`, () => {
    const hashes = Array.from({ length: 5 }, () => hashOf({ device: "cuda", dtype }, false));
    assert.is(new Set(hashes).size, 1, hashes.join(" "));
  });
  on(training, "cuda", `${dtype}: and the same one when steps are recorded as a graph`, () => {
    assert.is(hashOf({ device: "cuda", dtype }, true), hashOf({ device: "cuda", dtype }, false));
  });
}

training.run();
