/** Timing on the GPU: device events, L2 flushed before every repetition, medians. */
import { memory, scope, synchronize, timeOnDevice, zeros } from "../../lib/index.js";

export interface Row {
  group: string;
  name: string;
  /** Median, tenth and ninetieth percentile, in milliseconds. */
  ms: number;
  p10: number;
  p90: number;
  /** The least that must move: every input read once, every output written once. */
  bytes?: number;
  flops?: number;
  /** Images of a step. */
  images?: number;
  /** Bytes in use and reserved at most. */
  peakBytes?: number;
  reservedBytes?: number;
  note?: string;
}

const REPETITIONS = 20;
const FLUSH_BYTES = 256 * 2 ** 20;

/** Writes more than the L2 cache holds. */
function flush(): void {
  scope(() => void zeros([FLUSH_BYTES / 4], { device: "cuda" }));
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(sorted.length - 1, low + 1)] - sorted[low]);
}

/** Times `fn`, whose tensors are freed, with a cold cache. */
export function measure(
  group: string,
  name: string,
  fn: () => unknown,
  cost: { bytes?: number; flops?: number } = {},
): Row {
  const run = () => scope(() => void fn());
  for (let k = 0; k < 3; k++) run();
  synchronize();
  const times = timeOnDevice(run, REPETITIONS, flush);
  return {
    group,
    name,
    ms: quantile(times, 0.5),
    p10: quantile(times, 0.1),
    p90: quantile(times, 0.9),
    ...cost,
  };
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
    ms: quantile(times, 0.5),
    p10: quantile(times, 0.1),
    p90: quantile(times, 0.9),
    images,
    peakBytes,
    reservedBytes: liveBytes + cachedBytes,
  };
}

/** Bytes per second of a large copy, read and written counted: the ceiling of everything that is bound by bytes. */
export function copyBandwidth(): number {
  const x = zeros([2 ** 29], { device: "cuda" });
  const row = measure("ceiling", "copy", () => x.reshape([2, 2 ** 28]).flip(0));
  x.dispose();
  return (2 * 4 * 2 ** 29) / (row.ms / 1000);
}

export function show(row: Row, bandwidth: number): string {
  const cells = [
    row.name.padEnd(54),
    `${row.ms.toFixed(3).padStart(9)} ms`,
    `(${row.p10.toFixed(3)}-${row.p90.toFixed(3)})`,
  ];
  if (row.bytes !== undefined) {
    const rate = row.bytes / (row.ms / 1000);
    cells.push(
      `${(rate / 1e9).toFixed(0).padStart(6)} GB/s`,
      `${((100 * rate) / bandwidth).toFixed(0).padStart(4)} % of copy`,
    );
  }
  if (row.flops !== undefined) cells.push(`${(row.flops / row.ms / 1e9).toFixed(1).padStart(7)} TFLOP/s`);
  if (row.images !== undefined)
    cells.push(`${((1000 * row.images) / row.ms).toFixed(0).padStart(7)} images/s`);
  if (row.peakBytes !== undefined)
    cells.push(
      `peak ${(row.peakBytes / 2 ** 30).toFixed(2)} GiB, reserved ${((row.reservedBytes ?? 0) / 2 ** 30).toFixed(2)}`,
    );
  if (row.note) cells.push(row.note);
  return cells.join("  ");
}
