import { cpus, platform, release, totalmem } from "node:os";
import { addonInfo, packageVersion } from "../native/addon.js";
import { cudaInfo } from "../native/cuda.js";
import { getThreads } from "../tensor/memory.js";
import type { Device } from "../tensor/tensor.js";

/** What a result may depend on besides the configuration. */
export function environment(device: Device = "cpu"): Record<string, unknown> {
  return {
    quadmamba: packageVersion(),
    node: process.versions.node,
    platform: `${platform()} ${release()} ${process.arch}`,
    cpu: cpus()[0]?.model.trim(),
    cores: cpus().length,
    memoryBytes: totalmem(),
    // what is free of its memory differs from run to run
    device: device === "cuda" ? { ...cudaInfo(), free: undefined } : device,
    threads: getThreads(),
    isa: addonInfo.isa,
    compiler: addonInfo.compiler,
    begun: new Date().toISOString(),
  };
}
