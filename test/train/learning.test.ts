/** Training from the outside: a recorded loss curve, one batch learned by heart, and memory that stays flat. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  AdamW,
  createQuadMamba,
  crossEntropy,
  getThreads,
  manualSeed,
  memory,
  type QuadMamba,
  randn,
  scope,
  setThreads,
  tensor,
} from "../../lib/index.js";
import { addonInfo } from "../../lib/native/addon.js";
import { hashTensors } from "../helpers/hash.js";

const learning = suite("learning");

const SMALL = {
  dims: 8,
  depths: [1, 1, 1, 1] as [number, number, number, number],
  inChannels: 1,
  numClasses: 4,
};

/** A model that sees the same eight images again and again. */
function setUp() {
  manualSeed(11);
  const model = createQuadMamba(SMALL);
  const optimizer = new AdamW(model.parameters(), {
    lr: 3e-3,
    weightDecay: 0.05,
  });
  const images = randn([8, 16, 16, 1]).keep();
  const labels = tensor([0, 1, 2, 3, 0, 1, 2, 3], { dtype: "int64" }).keep();
  const step = (): number =>
    scope(() => {
      const loss = crossEntropy(model.forward(images), labels);
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return loss.item();
    });
  const dispose = (): void => {
    for (const owner of [model, optimizer, images, labels]) owner.dispose();
  };
  return { model, step, dispose };
}

/** Losses of steps 0, 10, ..., 50, recorded once; a change of the arithmetic may move the last digits, not the curve. */
const RECORDED = [1.4219, 0.1473, 0.0301, 0.0114, 0.0065, 0.0047];

learning("the loss curve of 50 steps is the recorded one", () => {
  const { step, dispose } = setUp();
  const losses = Array.from({ length: 51 }, step);
  dispose();
  RECORDED.forEach((expected, k) => {
    const got = losses[10 * k];
    assert.ok(
      Math.abs(got - expected) < 0.01 + 0.02 * expected,
      `step ${10 * k}: ${got}, recorded ${expected}; all: ${[0, 10, 20, 30, 40, 50].map((s) => losses[s].toFixed(4))}`,
    );
  });
});

learning("one batch is learned by heart", () => {
  const { step, dispose } = setUp();
  let loss = Number.POSITIVE_INFINITY;
  for (let k = 0; k < 200 && loss > 0.01; k++) loss = step();
  dispose();
  assert.ok(loss <= 0.01, `loss ${loss} after 200 steps`);
});

learning("live bytes and tensors are the same after every one of 1000 steps", () => {
  const steps = addonInfo.sanitized ? 100 : 1000;
  const { step, dispose } = setUp();
  step();
  const { liveBytes, liveTensors } = memory();
  for (let k = 0; k < steps; k++) {
    step();
    assert.is(memory.liveBytes, liveBytes);
    assert.is(memory.liveTensors, liveTensors);
  }
  dispose();
});

const hashAfter100 = (model: QuadMamba, step: () => number): string => {
  for (let k = 0; k < 100; k++) step();
  return hashTensors(model.stateDict());
};

learning("equal hashes after 100 steps with 1, 2 and 3 threads, and in 5 runs", () => {
  const used = getThreads();
  const hashes = [1, 2, 3, 2, 2, 2, 2].map((threads) => {
    setThreads(threads);
    const { model, step, dispose } = setUp();
    const hash = hashAfter100(model, step);
    dispose();
    return hash;
  });
  setThreads(used);
  assert.is(new Set(hashes).size, 1);
});

learning.run();
