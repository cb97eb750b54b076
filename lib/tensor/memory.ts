import { readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { addon, type NativeStats } from "../native/addon.js";
import { requireInteger } from "../util/check.js";

/**
 * - `liveTensors`: native tensors not yet freed, those that the tape keeps for backward included
 * - `liveBytes`, `peakBytes`: storage in use, now and at most since the last `resetPeak()`
 * - `cachedBytes`: freed buffers kept for reuse
 * - `budget`: bytes that may be in use; beyond it an op throws {@link OutOfMemoryError}
 */
export type MemoryStats = NativeStats;

interface Memory extends Readonly<MemoryStats> {
  /** The counters of this thread, as they are now. */
  (): MemoryStats;
  /** Limits the bytes in use; the error past it names the largest holders. */
  setBudget(bytes: number): void;
  resetPeak(): void;
  /** Gives freed buffers back to the system. */
  trim(): void;
}

const functions = {
  setBudget(bytes: number): void {
    addon.setBudget(requireInteger("memory.setBudget", "bytes", bytes, 0));
  },
  resetPeak: (): void => addon.resetPeak(),
  trim: (): void => addon.trim(),
};

/** Counters and limits of native memory: `memory()` gives all counters, `memory.liveBytes` and its like one of them. */
export const memory = Object.assign((): MemoryStats => addon.stats(), functions) as unknown as Memory;
for (const key of ["liveTensors", "liveBytes", "peakBytes", "cachedBytes", "budget"] as const)
  Object.defineProperty(memory, key, {
    get: () => addon.stats()[key],
    enumerable: true,
  });

/** The container's memory limit where there is one, else the machine's memory. */
function availableMemory(): number {
  for (const path of ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]) {
    try {
      const limit = Number(readFileSync(path, "utf8").trim());
      if (Number.isSafeInteger(limit) && limit > 0) return Math.min(limit, totalmem());
    } catch {
      // no such control group
    }
  }
  return totalmem();
}

memory.setBudget(Math.floor(0.8 * availableMemory()));

/** Threads of the CPU kernels, 1 to 256. Results do not depend on it. */
export function setThreads(n: number): void {
  addon.setThreads(requireInteger("setThreads", "threads", n, 1, 256));
}

/** The number of threads in use. */
export function getThreads(): number {
  return addon.describe().threads;
}
