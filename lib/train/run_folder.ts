import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { cpus, platform, release, totalmem } from "node:os";
import { join } from "node:path";
import { asFileError, sweepTemporaryFiles, writeFileAtomic } from "../io/atomic_write.js";
import { addonInfo, packageVersion } from "../native/addon.js";
import { cudaInfo } from "../native/cuda.js";
import { getThreads } from "../tensor/memory.js";
import type { Device } from "../tensor/tensor.js";
import { ConfigError } from "../util/errors.js";
import type { TrainConfig } from "./config.js";

/** A line of metrics.jsonl: after every few steps, and with the test figures at the end of an epoch. */
export interface MetricsLine {
  step: number;
  epoch: number;
  trainLoss: number;
  trainAccuracy: number;
  lr: number;
  gradNorm?: number;
  imagesPerSecond?: number;
  testLoss?: number;
  testAccuracy?: number;
  emaTestLoss?: number;
  emaTestAccuracy?: number;
}

/** The folder of a run: config.json, environment.json, metrics.jsonl, last.safetensors, best.safetensors and best-ema.safetensors. */
export class RunFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  get last(): string {
    return join(this.path, "last.safetensors");
  }
  get best(): string {
    return join(this.path, "best.safetensors");
  }
  get bestEma(): string {
    return join(this.path, "best-ema.safetensors");
  }
  get metrics(): string {
    return join(this.path, "metrics.jsonl");
  }

  /** A new folder; without a path runs/DATA-NUMBER, the first number that is free. @throws if it holds anything already */
  static create(path: string | undefined, config: TrainConfig): RunFolder {
    const folder = new RunFolder(path ?? freeName(config.data.replace(/[^\w-]+/g, "_")));
    const names = folder.#attempt(() => (existsSync(folder.path) ? readdirSync(folder.path) : []));
    if (names.length > 0)
      throw new ConfigError(
        "train",
        `${folder.path} is not empty`,
        "a new folder, or --resume to go on with the run there",
      );
    folder.#attempt(() => mkdirSync(folder.path, { recursive: true }));
    folder.#write("config.json", config);
    folder.#write("environment.json", environment(config.device));
    return folder;
  }

  /** The folder of a run to go on with. Metrics after `step` are dropped: they will be written again. */
  static resume(path: string, step: number): RunFolder {
    const folder = new RunFolder(path);
    sweepTemporaryFiles(path);
    if (existsSync(folder.metrics)) {
      const lines = readFileSync(folder.metrics, "utf8").split("\n");
      const kept = lines.filter((line) => line !== "" && stepOf(line) <= step);
      writeFileAtomic(folder.metrics, [Buffer.from(kept.map((line) => `${line}\n`).join(""))]);
    }
    return folder;
  }

  log(line: MetricsLine): void {
    this.#attempt(() => appendFileSync(this.metrics, `${JSON.stringify(line)}\n`));
  }

  #write(name: string, value: unknown): void {
    writeFileAtomic(join(this.path, name), [Buffer.from(`${JSON.stringify(value, null, 2)}\n`)]);
  }
  #attempt<R>(action: () => R): R {
    try {
      return action();
    } catch (error) {
      throw asFileError("train", this.path, "could not be written", error);
    }
  }
}

/** The step of a line, beyond all steps if the line is cut short. */
function stepOf(line: string): number {
  try {
    return (JSON.parse(line) as MetricsLine).step;
  } catch {
    return Infinity;
  }
}

function freeName(stem: string): string {
  let number = 1;
  while (existsSync(join("runs", `${stem}-${number}`))) number++;
  return join("runs", `${stem}-${number}`);
}

/** What a result may depend on besides the configuration. */
export function environment(device: Device = "cpu"): Record<string, unknown> {
  return {
    quadmamba: packageVersion(),
    node: process.versions.node,
    platform: `${platform()} ${release()} ${process.arch}`,
    cpu: cpus()[0]?.model.trim(),
    cores: cpus().length,
    memoryBytes: totalmem(),
    device: device === "cuda" ? cudaInfo() : device,
    threads: getThreads(),
    isa: addonInfo.isa,
    compiler: addonInfo.compiler,
    begun: new Date().toISOString(),
  };
}
