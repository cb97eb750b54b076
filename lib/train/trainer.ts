import { statSync } from "node:fs";
import { dirname } from "node:path";
import {
  type DataSource,
  imageSize,
  loadDataset,
  measureNormalisation,
  preparationFor,
} from "../data/index.js";
import { type QuadMambaConfig, resolveConfig } from "../models/quadmamba/config.js";
import { createQuadMamba } from "../models/quadmamba/model.js";
import { sweepTemporaryFiles } from "../io/atomic_write.js";
import { setThreads } from "../tensor/memory.js";
import { manualSeed } from "../tensor/random.js";
import { requireOptions } from "../util/check.js";
import { ConfigError, FileError } from "../util/errors.js";
import {
  type Checkpoint,
  disposeCheckpoint,
  disposeTrained,
  freshState,
  modelOf,
  restoreState,
} from "./checkpoint.js";
import {
  configDifferences,
  FREE_KEYS,
  resolveTrainConfig,
  type TrainConfig,
  type TrainOptions,
} from "./config.js";
import { hashData } from "./data_hash.js";
import { environment } from "./environment.js";
import type { TrainObserver } from "./observer.js";
import { makeOptimizer } from "./optimizer.js";
import { requirePlacement } from "./placement.js";
import { Run, type RunParts, type TrainResult } from "./run.js";
import { RunFolder } from "./run_folder.js";

export interface TrainRequest {
  /**
   * Folder of the run; by default a new one below runs/. If it holds a run of the same configuration already, that one goes on from
   * its newest checkpoint.
   */
  out?: string;
  /** A run's folder, or a checkpoint in one, to go on from: same bits as if it had never stopped. Its configuration holds. */
  resume?: string;
  /** Stops after the step that is running, saved. */
  signal?: AbortSignal;
  observer?: TrainObserver;
}

/**
 * Trains a QuadMamba by a recipe: AdamW, warm-up and cosine, clipping, label smoothing, evaluation after every epoch.
 * Deterministic: the same configuration gives the same bits, whatever the threads and workers, stopped and resumed or not.
 * @throws {ConfigError} {FileError} before anything is written; {TrainingError} when the loss is no number any more
 */
export async function train(options: TrainOptions, request: TrainRequest = {}): Promise<TrainResult> {
  requireOptions("train", request, ["out", "resume", "signal", "observer"]);
  const observer = request.observer ?? {};
  const parts = await prepareRun(options, request, (message) => observer.warning?.(message));
  try {
    const run = new Run(parts, observer);
    try {
      return await run.finish(request.signal);
    } finally {
      await run.dispose();
    }
  } finally {
    disposeTrained(parts.trained);
  }
}

/** A new run, or one that goes on. */
async function prepareRun(
  options: TrainOptions,
  { out, resume }: TrainRequest,
  warn: (message: string) => void,
): Promise<RunParts> {
  if (resume !== undefined) {
    if (out !== undefined)
      throw new ConfigError(
        "train",
        "--out and --resume exclude each other: a resumed run stays in its folder",
      );
    const isFolder = statSync(resume, { throwIfNoEntry: false })?.isDirectory() ?? false;
    const folder = new RunFolder(isFolder ? resume : dirname(resume));
    const checkpoint = isFolder ? folder.loadNewest(warn) : folder.load(resume);
    if (!checkpoint) throw new FileError("train", `${resume} holds no checkpoint`, "the folder of a run");
    return await resumeRun(checkpoint, folder);
  }
  const config = resolveTrainConfig(options);
  if (out === undefined || !RunFolder.holdsRun(out))
    return await startRun(config, () => RunFolder.create(out, config));
  const folder = new RunFolder(out);
  requireSameRun(folder, config);
  const checkpoint = folder.loadNewest(warn);
  if (!checkpoint) return await startRun(config, () => folder); // it ended before its first save
  for (const key of FREE_KEYS) Object.assign(checkpoint.config, { [key]: config[key] });
  return await resumeRun(checkpoint, folder);
}

/** @param open makes the folder, when all else is known to be right */
async function startRun(config: TrainConfig, open: () => RunFolder): Promise<RunParts> {
  const data = await loadDataset(config.data);
  const modelConfig = modelConfigOf(config, data);
  checkFit(config, data);
  place(config);
  const { imageSize: size, fit, cropShare, interpolation } = config;
  const prepare = preparationFor(data.train, { size, fit, cropShare, interpolation });
  const dataHash = hashData(data);
  const folder = open();
  folder.writeJson("environment.json", {
    ...environment(config.device),
    arguments: process.argv.slice(2),
    seed: config.seed,
    dataHash,
  });
  // made before the seed is set, so that a run with an average draws what one without it draws
  const average = config.ema > 0 ? createQuadMamba(modelConfig).to(config.device) : undefined;
  manualSeed(config.seed);
  const model = createQuadMamba(modelConfig).to(config.device);
  average?.loadStateDict(model.stateDict());
  const trained = { model, average, optimizer: makeOptimizer(model, config) };
  const facts = {
    config,
    prepare,
    image: imageSize(data.train, prepare),
    classes: data.classes,
    dataHash,
    state: freshState(),
  };
  return { data, trained, facts, folder };
}

async function resumeRun(checkpoint: Checkpoint, folder: RunFolder): Promise<RunParts> {
  try {
    const { model: _, tensors: __, ...facts } = checkpoint;
    const { config } = facts;
    const data = await loadDataset(config.data);
    checkUnchanged(folder.path, checkpoint, data);
    place(config);
    sweepTemporaryFiles(folder.path);
    manualSeed(config.seed);
    const average = config.ema > 0 ? modelOf(checkpoint, "ema").to(config.device) : undefined;
    const model = modelOf(checkpoint, "trained").to(config.device);
    const optimizer = makeOptimizer(model, config);
    restoreState(checkpoint, optimizer);
    return { data, trained: { model, average, optimizer }, facts, folder };
  } finally {
    disposeCheckpoint(checkpoint);
  }
}

/** Where the run computes, before anything is made there. */
function place(config: TrainConfig): void {
  requirePlacement("train", config);
  if (config.threads) setThreads(config.threads);
}

function modelConfigOf({ model }: TrainConfig, data: DataSource): QuadMambaConfig {
  const given = typeof model === "string" ? { variant: model } : model;
  for (const key of ["numClasses", "inChannels"])
    if (key in given) throw new ConfigError("train", `model.${key} cannot be set: it follows from the data`);
  return resolveConfig({ ...given, inChannels: data.train.channels, numClasses: data.classes.length });
}

/** @throws {ConfigError} if the folder's run is another one than the configuration describes */
function requireSameRun(folder: RunFolder, config: TrainConfig): void {
  const differences = configDifferences(folder.readConfig(), config);
  if (differences.length > 0)
    throw new ConfigError(
      "train",
      `${folder.path} holds a run of another configuration (${differences.join("; ")})`,
      "a new folder, or --resume to go on with that run as it is",
    );
}

function checkUnchanged(path: string, { dataHash, classes, prepare }: Checkpoint, data: DataSource): void {
  // older files have no hash, but the mean and deviation of all pixels, which tell as much
  const [expected, got] = dataHash
    ? [dataHash, hashData(data)]
    : [
        JSON.stringify([classes.length, prepare.mean, prepare.std]),
        JSON.stringify([data.classes.length, ...Object.values(measureNormalisation(data.train))]),
      ];
  if (expected !== got)
    throw new FileError("train", `${path}: the data set has changed since`, expected, got);
}

function checkFit(config: TrainConfig, { train }: DataSource): void {
  if (
    config.fit === "pad" &&
    train.kind !== "files" &&
    config.imageSize < Math.max(train.height, train.width)
  )
    throw new ConfigError(
      "train",
      "imageSize is smaller than the images",
      `at least ${Math.max(train.height, train.width)}, or fit resize or crop`,
      `${config.imageSize}`,
    );
  if (config.fit === "pad" && train.kind === "files")
    throw new ConfigError("train", "image files are of different sizes", "fit resize or crop", "pad");
  if (config.batchSize > train.count)
    throw new ConfigError(
      "train",
      "batchSize is larger than the data set",
      `at most ${train.count}`,
      `${config.batchSize}`,
    );
}
