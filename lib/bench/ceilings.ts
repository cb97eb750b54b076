/** What the machine can do at best, measured in the same run as what is set against it. */

import { noGrad } from "../autograd/mode.js";
import { addon } from "../native/addon.js";
import { flip, linear, randn, zeros } from "../ops/index.js";
import { DTYPES } from "../tensor/dtype.js";
import { getThreads } from "../tensor/memory.js";
import { scope } from "../tensor/scope.js";
import type { Device } from "../tensor/tensor.js";
import { EFFORT, summary, timeCalls } from "./timing.js";

export interface Ceilings {
  /** CPU threads in use. */
  threads: number;
  /** Of a large copy, read and written. */
  copyBytesPerSecond: number;
  flopsPerSecond: number;
  /** What `flopsPerSecond` was measured with. */
  peak: string;
}

/** Elements of float32, many times as much as the caches hold. */
const COPY_ELEMENTS: Record<Device, number> = { cpu: 2 ** 25, cuda: 2 ** 29 };
const GPU_PRODUCT = 8192;
const FMA_ROUNDS = 100_000;
const FMA_REPETITIONS = 31;

/** Bytes per second of a large copy, read and written counted: the ceiling of everything that is bound by bytes. */
export function copyBandwidth(device: Device, effort = EFFORT): number {
  return scope(() => {
    const elements = COPY_ELEMENTS[device];
    const x = zeros([2, elements / 2], { device });
    const { ms } = timeCalls(() => flip(x, 0), device, effort);
    return (2 * 4 * elements) / (ms / 1000);
  });
}

/** Fused multiply-adds in registers on the CPU's threads; on a GPU the best that there is without code for it: a large float32 product. */
export function peakFlops(device: Device, dtype: "float32" | "float64"): { flops: number; how: string } {
  if (device === "cuda")
    return scope(() => {
      const n = GPU_PRODUCT;
      const [x, w] = [randn([n, n], { device }), randn([n, n], { device })];
      const { ms } = timeCalls(() => noGrad(() => linear(x, w)), device);
      return { flops: (2 * n ** 3) / (ms / 1000), how: `float32 product ${n} x ${n} x ${n}` };
    });
  const { code } = DTYPES[dtype];
  const times: number[] = [];
  let done = addon.multiplyAdds(code, FMA_ROUNDS); // wakes the threads
  for (let k = 0; k < FMA_REPETITIONS; k++) {
    const begin = performance.now();
    done = addon.multiplyAdds(code, FMA_ROUNDS);
    times.push(performance.now() - begin);
  }
  return { flops: done / (summary(times).ms / 1000), how: `${dtype} fused multiply-adds in registers` };
}

export function measureCeilings(
  device: Device,
  dtype: "float32" | "float64" = "float32",
  effort = EFFORT,
): Ceilings {
  const { flops, how } = peakFlops(device, dtype);
  return {
    threads: getThreads(),
    copyBytesPerSecond: copyBandwidth(device, effort),
    flopsPerSecond: flops,
    peak: how,
  };
}

export function describeCeilings({ threads, copyBytesPerSecond, flopsPerSecond, peak }: Ceilings): string {
  return (
    `ceilings at ${threads} thread${threads === 1 ? "" : "s"}: copy ${(copyBytesPerSecond / 1e9).toFixed(1)} GB/s (read + written), ` +
    `${(flopsPerSecond / 1e9).toFixed(1)} GFLOP/s (${peak})`
  );
}
