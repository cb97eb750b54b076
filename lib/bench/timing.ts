/** How benches take time: after a warm-up, many times, and the median of that. */
import { zeros } from "../ops/index.js";
import { timeOnDevice } from "../tensor/clock.js";
import { synchronize } from "../tensor/memory.js";
import { scope } from "../tensor/scope.js";
import type { Device } from "../tensor/tensor.js";

/** Milliseconds of a call: the median and the tenth and ninetieth percentile of the repetitions. */
export interface Timing {
  ms: number;
  p10: number;
  p90: number;
  repetitions: number;
}

/** On the CPU: milliseconds spent at least, and repetitions at least and at most. */
export interface Effort {
  warmUpMs: number;
  budgetMs: number;
  fewest: number;
  most: number;
}
export const EFFORT: Effort = { warmUpMs: 30, budgetMs: 300, fewest: 5, most: 200 };
/** Calls of less are timed several at a time: the clock has its own cost. */
const SHORTEST_SAMPLE_MS = 0.1;

const GPU_WARM_UP = 3;
const GPU_REPETITIONS = 20;
/** More than the L2 cache of a GPU holds. */
const FLUSH_BYTES = 256 * 2 ** 20;

/** The value below which a share `q` of the values lies, interpolated. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(sorted.length - 1, low + 1)] - sorted[low]);
}

export function summary(times: readonly number[]): Timing {
  return {
    ms: quantile(times, 0.5),
    p10: quantile(times, 0.1),
    p90: quantile(times, 0.9),
    repetitions: times.length,
  };
}

/** Times `fn`, whose tensors are freed: by the host's clock, or on a GPU by its own, with the L2 cache flushed before each time. */
export function timeCalls(fn: () => unknown, device: Device = "cpu", effort = EFFORT): Timing {
  return device === "cpu" ? summary(timesOnHost(() => scope(() => void fn()), effort)) : timeCallsOnGpu(fn);
}

/** The same on a GPU. `before` comes before each time, which it is no part of. */
export function timeCallsOnGpu(fn: () => unknown, before: () => unknown = () => {}): Timing {
  const run = () => scope(() => void fn());
  for (let k = 0; k < GPU_WARM_UP; k++) run();
  synchronize();
  const prepare = () =>
    scope(() => {
      before();
      zeros([FLUSH_BYTES / 4], { device: "cuda" });
    });
  return summary(timeOnDevice(run, GPU_REPETITIONS, prepare));
}

function timesOnHost(run: () => void, { warmUpMs, budgetMs, fewest, most }: Effort): number[] {
  const sample = (calls: number) => {
    const begin = performance.now();
    for (let k = 0; k < calls; k++) run();
    return (performance.now() - begin) / calls;
  };
  let once = Infinity;
  for (let spent = 0; spent < warmUpMs; ) {
    const ms = sample(1);
    spent += ms;
    once = Math.min(once, ms);
  }
  const calls = Math.max(1, Math.ceil(SHORTEST_SAMPLE_MS / once));
  const times: number[] = [];
  for (let spent = 0; times.length < fewest || (spent < budgetMs && times.length < most); ) {
    const ms = sample(calls);
    times.push(ms);
    spent += ms * calls;
  }
  return times;
}
