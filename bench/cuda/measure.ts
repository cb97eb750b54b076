/** Rows of the benches on the GPU: device events, L2 flushed before every repetition, medians. */
import { memory, synchronize } from "../../lib/index.js";
import { summary, timeCallsOnGpu } from "../../lib/bench/timing.js";
import type { Row } from "../helpers/row.js";

export type { Row };

/** Times `fn`, whose tensors are freed, with a cold cache; `before` comes before each time. */
export function measure(
  group: string,
  name: string,
  fn: () => unknown,
  cost: { bytes?: number; flops?: number } = {},
  before?: () => unknown,
): Row {
  return { group, name, ...timeCallsOnGpu(fn, before), ...cost };
}

/** Times whole steps one after the other, as a training loop runs them; the host's part counts where it is the longer one. */
export function measureSteps(
  group: string,
  name: string,
  step: () => void,
  images: number,
  warmUp = 5,
  steps = 15,
): Row {
  for (let k = 0; k < warmUp; k++) step();
  synchronize();
  memory.resetPeak("cuda");
  const times: number[] = [];
  for (let k = 0; k < steps; k++) {
    const begin = performance.now();
    step();
    synchronize();
    times.push(performance.now() - begin);
  }
  const { peakBytes, liveBytes, cachedBytes } = memory("cuda");
  return {
    group,
    name,
    ...summary(times),
    images,
    peakBytes,
    reservedBytes: liveBytes + cachedBytes,
  };
}
