import { readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { addon, type NativeStats, translate } from "../native/addon.js";
import { requireBoolean, requireInteger } from "../util/check.js";
import { type Device, deviceCode, requireDevice } from "./tensor.js";

/**
 * - `liveTensors`: native tensors not yet freed on all devices, those that the tape keeps for backward included
 * - `liveBytes`, `peakBytes`: storage in use, now and at most since the last `resetPeak()`
 * - `cachedBytes`: freed buffers kept for reuse
 * - `reservedBytes`: both together
 * - `budget`: bytes that may be in use; beyond it an op throws {@link OutOfMemoryError}
 */
export type MemoryStats = NativeStats;

interface Memory extends Readonly<MemoryStats> {
  /** The counters of this thread on a device (default: the CPU), as they are now. */
  (device?: Device): MemoryStats;
  /** Limits the bytes in use on a device; the error past it names the largest holders. */
  setBudget(bytes: number, device?: Device): void;
  resetPeak(device?: Device): void;
  /** Gives freed buffers that are kept for reuse back to the system, or to the GPU's driver. */
  emptyCache(device?: Device): void;
}

function codeOf(op: string, device: Device | undefined): number {
  return deviceCode(requireDevice(op, device ?? "cpu"));
}

const functions = {
  setBudget(bytes: number, device?: Device): void {
    addon.setBudget(
      requireInteger("memory.setBudget", "bytes", bytes, 0),
      codeOf("memory.setBudget", device),
    );
  },
  resetPeak: (device?: Device): void => addon.resetPeak(codeOf("memory.resetPeak", device)),
  emptyCache: (device?: Device): void => addon.emptyCache(codeOf("memory.emptyCache", device)),
};

/** Counters and limits of native memory: `memory()` gives all counters, `memory.liveBytes` and its like one of them. */
export const memory = Object.assign(
  (device?: Device): MemoryStats => addon.stats(codeOf("memory", device)),
  functions,
) as unknown as Memory;
for (const key of [
  "liveTensors",
  "liveBytes",
  "peakBytes",
  "cachedBytes",
  "reservedBytes",
  "budget",
] as const)
  Object.defineProperty(memory, key, {
    get: () => addon.stats(0)[key],
    enumerable: true,
  });

/** Waits until a device has done all work it was given. @throws what went wrong in it */
export function synchronize(device: Device = "cuda"): void {
  const code = codeOf("synchronize", device);
  try {
    addon.synchronize(code);
  } catch (error) {
    throw translate("synchronize", error);
  }
}

/**
 * Whether matrix products of float32 on a GPU may round their operands to TF32 (10 bits of mantissa) and so run on the
 * tensor cores. Off unless asked for; convolutions, float64 and bfloat16 are not touched.
 */
export function allowTf32(on: boolean): void {
  const code = codeOf("allowTf32", "cuda");
  addon.allowTf32(code, Number(requireBoolean("allowTf32", "on", on)));
}

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
