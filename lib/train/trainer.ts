import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  type DataSource,
  imageSize,
  loadDataset,
  measureNormalisation,
  type Normalisation,
  preparationFor,
} from "../data/index.js";
import { resolveConfig } from "../models/quadmamba/config.js";
import { createQuadMamba, type QuadMamba } from "../models/quadmamba/model.js";
import { AdamW } from "../optim/index.js";
import { manualSeed } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { requireOptions } from "../util/check.js";
import { ConfigError, FileError } from "../util/errors.js";
import {
  type Checkpoint,
  disposeCheckpoint,
  loadCheckpoint,
  modelOf,
  type RunState,
  restoreState,
} from "./checkpoint.js";
import { resolveTrainConfig, type TrainConfig, type TrainOptions } from "./config.js";
import type { TrainObserver } from "./observer.js";
import { requirePlacement } from "./placement.js";
import { Run, type TrainResult } from "./run.js";
import { RunFolder } from "./run_folder.js";

export interface TrainRequest {
  /** Folder of the run; by default a new one below runs/. */
  out?: string;
  /** A run's folder, or a checkpoint in one, to go on from: same bits as if it had never stopped. Its configuration holds. */
  resume?: string;
  /** Stops after the step that is running, saved. */
  signal?: AbortSignal;
  observer?: TrainObserver;
}

/**
 * Trains a QuadMamba from scratch: AdamW, linear warm-up and cosine, clipping, label smoothing, evaluation after every epoch.
 * Deterministic: the same configuration gives the same bits, whatever the threads, stopped and resumed or not.
 * @throws {ConfigError} {FileError} before anything is written; {TrainingError} when the loss is no number any more
 */
export async function train(options: TrainOptions, request: TrainRequest = {}): Promise<TrainResult> {
  requireOptions("train", request, ["out", "resume", "signal", "observer"]);
  const run = await (request.resume
    ? resumeRun(request.resume, request.out)
    : startRun(resolveTrainConfig(options), request.out));
  try {
    return await run.finish(request.signal, request.observer ?? {});
  } finally {
    run.dispose();
  }
}

async function startRun(config: TrainConfig, out: string | undefined): Promise<Run> {
  const data = await loadDataset(config.data);
  const prepare = preparationFor(data.train, { size: config.imageSize });
  const given = typeof config.model === "string" ? { variant: config.model } : config.model;
  for (const key of ["numClasses", "inChannels"])
    if (key in given) throw new ConfigError("train", `model.${key} cannot be set: it follows from the data`);
  const modelConfig = resolveConfig({
    ...given,
    inChannels: data.train.channels,
    numClasses: data.classes.length,
  });
  checkFit(config, data);
  requirePlacement("train", config);
  const folder = RunFolder.create(out, config);
  // made before the seed is set, so that a run with an average draws what one without it draws
  const average = config.ema > 0 ? createQuadMamba(modelConfig).to(config.device) : undefined;
  manualSeed(config.seed);
  const model = createQuadMamba(modelConfig).to(config.device);
  average?.loadStateDict(model.stateDict());
  const trained = { model, average, optimizer: makeOptimizer(model, config) };
  const state: RunState = {
    step: 0,
    draws: 0,
    epochLoss: 0,
    epochCorrect: 0,
    bestAccuracy: 0,
    bestEmaAccuracy: 0,
  };
  return new Run(config, data, prepare, trained, state, folder);
}

async function resumeRun(path: string, out: string | undefined): Promise<Run> {
  if (out !== undefined)
    throw new ConfigError(
      "train",
      "--out and --resume exclude each other: a resumed run stays in its folder",
    );
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const checkpoint = loadCheckpoint(isFolder ? join(path, "last.safetensors") : path);
  try {
    const { config, prepare, state } = checkpoint;
    const data = await loadDataset(config.data);
    checkUnchanged(path, checkpoint, data);
    const folder = RunFolder.resume(isFolder ? path : dirname(path), state.step);
    manualSeed(config.seed);
    requirePlacement("train", config);
    const average = config.ema > 0 ? modelOf(checkpoint, "ema").to(config.device) : undefined;
    const model = modelOf(checkpoint, "trained").to(config.device);
    const optimizer = makeOptimizer(model, config);
    restoreState(checkpoint, optimizer);
    return new Run(config, data, prepare, { model, average, optimizer }, state, folder);
  } finally {
    disposeCheckpoint(checkpoint);
  }
}

/** The mean and deviation of all pixels tell one set of images from another. */
function checkUnchanged(
  path: string,
  { prepare, image, classes }: Checkpoint,
  { train, classes: names }: DataSource,
): void {
  const facts = ({ mean, std }: Normalisation, { height, width }: Checkpoint["image"], count: number) =>
    `${height} x ${width} pixels of mean ${mean} and deviation ${std}, ${count} classes`;
  const [expected, got] = [
    facts(prepare, image, classes.length),
    facts(measureNormalisation(train), imageSize(train, prepare), names.length),
  ];
  if (expected !== got)
    throw new FileError("train", `${path}: the data set has changed since`, expected, got);
}

function checkFit(config: TrainConfig, data: DataSource): void {
  const { height, width } = imageSize(data.train, { size: config.imageSize });
  if (config.imageSize < Math.max(height, width))
    throw new ConfigError(
      "train",
      "imageSize is smaller than the images",
      `at least ${Math.max(height, width)}`,
      `${config.imageSize}`,
    );
  if (config.batchSize > data.train.count)
    throw new ConfigError(
      "train",
      "batchSize is larger than the data set",
      `at most ${data.train.count}`,
      `${config.batchSize}`,
    );
}

/** No decay for one-dimensional parameters (norms, biases, D), the biases of dt, and, unless asked for, A_logs. */
function makeOptimizer(model: QuadMamba, { lr, betas, weightDecay, decayALogs }: TrainConfig): AdamW {
  const decays = ([name, t]: [string, Tensor]) =>
    t.rank > 1 && !name.endsWith("bias") && (decayALogs || !name.endsWith("A_logs"));
  const named = [...model.namedParameters()];
  const tensors = (list: [string, Tensor][]) => list.map(([, t]) => t);
  return new AdamW(
    [
      { params: tensors(named.filter(decays)), weightDecay },
      {
        params: tensors(named.filter((entry) => !decays(entry))),
        weightDecay: 0,
      },
    ],
    { lr, betas },
  );
}
