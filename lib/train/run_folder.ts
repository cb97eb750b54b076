import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { asFileError, sweepTemporaryFiles, writeFileAtomic } from "../io/atomic_write.js";
import { ConfigError, FileError } from "../util/errors.js";
import { type Checkpoint, loadCheckpoint } from "./checkpoint.js";
import { resolveTrainConfig, type TrainConfig, upgradeConfig } from "./config.js";

const STEP_FILE = /^step-(\d+)\.safetensors$/;

/**
 * The folder of a run. last.safetensors is its newest checkpoint, step-NUMBER.safetensors are the ones before it;
 * best.safetensors and best-ema.safetensors are those of the best test accuracies.
 */
export class RunFolder {
  readonly path: string;
  /** Step of last.safetensors, if that file is known to be whole. */
  #lastStep: number | undefined;

  constructor(path: string) {
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

  /** Whether a run began there. */
  static holdsRun(path: string): boolean {
    return existsSync(join(path, "config.json"));
  }

  /** A new folder; without a path runs/DATA-NUMBER, the first number that is free. @throws if it holds anything already */
  static create(path: string | undefined, config: TrainConfig): RunFolder {
    const folder = new RunFolder(path ?? freeName(config.data.replace(/[^\w-]+/g, "_")));
    folder.attempt(() => mkdirSync(folder.path, { recursive: true }));
    sweepTemporaryFiles(folder.path);
    if (folder.#names().length > 0)
      throw new ConfigError("train", `${folder.path} is not empty, and holds no run`, "a new folder");
    folder.writeJson("config.json", config);
    return folder;
  }

  /** The configuration that the run began with. */
  readConfig(): TrainConfig {
    const path = join(this.path, "config.json");
    const text = this.attempt(() => readFileSync(path, "utf8"));
    try {
      return resolveTrainConfig(upgradeConfig(JSON.parse(text)), path);
    } catch (error) {
      if (error instanceof ConfigError) throw error;
      throw new FileError("train", `${path} is damaged`, "the configuration of a run");
    }
  }

  /** Checkpoints to go on from, the newest first. */
  checkpoints(): string[] {
    const older = this.#stepFiles().map(({ path }) => path);
    return existsSync(this.last) ? [this.last, ...older] : older;
  }

  /** Reads a checkpoint of the folder. */
  load(path: string): Checkpoint {
    const checkpoint = loadCheckpoint(path);
    if (path === this.last) this.#lastStep = checkpoint.state.step;
    return checkpoint;
  }

  /** The newest checkpoint that is whole, if there is any at all; what is wrong with newer ones goes to `warn`. */
  loadNewest(warn: (message: string) => void): Checkpoint | undefined {
    const damaged: string[] = [];
    for (const path of this.checkpoints()) {
      try {
        const checkpoint = this.load(path);
        for (const message of damaged) warn(`${message}; going on from ${path}`);
        return checkpoint;
      } catch (error) {
        if (!(error instanceof FileError)) throw error;
        damaged.push(error.message);
      }
    }
    if (damaged.length > 0) throw new FileError("train", damaged.join("; "), "a whole checkpoint");
    return undefined;
  }

  /** Writes last.safetensors by `write`, and keeps the `keep` - 1 that it replaces. */
  replaceLast(step: number, keep: number, write: (path: string) => void): void {
    // A second name for the old file first: at no moment is there none.
    if (this.#lastStep !== undefined && this.#lastStep !== step && keep > 1)
      this.#copyOf(this.last, join(this.path, `step-${String(this.#lastStep).padStart(7, "0")}.safetensors`));
    write(this.last);
    this.#lastStep = step;
    const older = this.#stepFiles();
    const dropped = older.filter((file, k) => file.step >= step || k >= keep - 1);
    for (const { path } of dropped) rmSync(path, { force: true });
  }

  writeJson(name: string, value: unknown): void {
    writeFileAtomic(join(this.path, name), [Buffer.from(`${JSON.stringify(value, null, 2)}\n`)]);
  }

  /** Does something with the folder's files; an error of the system names the folder. */
  attempt<R>(action: () => R): R {
    try {
      return action();
    } catch (error) {
      throw asFileError("train", this.path, "could not be used", error);
    }
  }

  #copyOf(from: string, to: string): void {
    if (!existsSync(from)) return;
    rmSync(to, { force: true });
    try {
      linkSync(from, to);
    } catch {
      copyFileSync(from, to); // not every file system has links
    }
  }

  #stepFiles(): { step: number; path: string }[] {
    return this.#names()
      .flatMap((name) => {
        const step = STEP_FILE.exec(name)?.[1];
        return step === undefined ? [] : [{ step: Number(step), path: join(this.path, name) }];
      })
      .sort((a, b) => b.step - a.step);
  }

  #names(): string[] {
    return this.attempt(() => readdirSync(this.path));
  }
}

function freeName(stem: string): string {
  let number = 1;
  while (existsSync(join("runs", `${stem}-${number}`))) number++;
  return join("runs", `${stem}-${number}`);
}
