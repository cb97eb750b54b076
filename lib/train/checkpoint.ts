import { createHash } from "node:crypto";
import { z } from "zod";
import { type Preparation, preparationSchema } from "../data/index.js";
import { loadSafetensors, saveSafetensors } from "../io/safetensors.js";
import { type QuadMambaConfig, resolveConfig } from "../models/quadmamba/config.js";
import { createQuadMamba, type QuadMamba } from "../models/quadmamba/model.js";
import type { AdamW } from "../optim/index.js";
import { defaultGenerator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { requireOneOf } from "../util/check.js";
import { FileError } from "../util/errors.js";
import { resolveTrainConfig, type TrainConfig, upgradeConfig } from "./config.js";

const count = z.number().int().min(0);
const STATE = z.strictObject({
  step: count,
  draws: count,
  epochLoss: z.number(),
  epochCorrect: count,
  bestAccuracy: z.number(),
  bestEmaAccuracy: z.number().default(0), // older files lack what was added later
  epochsSinceBest: count.default(0),
});
const IMAGE = z.strictObject({ height: count.min(1), width: count.min(1) });
const CLASSES = z.array(z.string()).min(1);

const FORMAT = "quadmamba checkpoint 1";
const MODEL = "model.";
const EMA = "ema.";
const OPTIMIZER = "optimizer.";
const CHECKSUM = "sha256";

/** Where a run stands: with the tensors, all that the next step depends on. */
export interface RunState {
  /** Steps taken. Epoch and position within it follow from it. */
  step: number;
  /** Draws of the default generator so far (drop path, Gumbel noise). */
  draws: number;
  /** Sums over the epoch so far. */
  epochLoss: number;
  epochCorrect: number;
  bestAccuracy: number;
  /** The same of the moving average; 0 without one. */
  bestEmaAccuracy: number;
  /** Evaluations since either was reached. */
  epochsSinceBest: number;
}

/** What a run changes. */
export interface Trained {
  model: QuadMamba;
  /** Moving average of the model's weights, or none. */
  average: QuadMamba | undefined;
  optimizer: AdamW;
}

export function disposeTrained(trained: Trained): void {
  for (const part of Object.values<QuadMamba | AdamW | undefined>({ ...trained })) part?.dispose();
}

export interface Checkpoint {
  config: TrainConfig;
  model: QuadMambaConfig;
  prepare: Preparation;
  /** The data's own size in pixels; of files, which differ, that of the square. */
  image: { height: number; width: number };
  classes: readonly string[];
  /** Of the data set (data_hash.ts); older files have none. */
  dataHash?: string;
  state: RunState;
  tensors: Map<string, Tensor>;
}

/** What a checkpoint says besides its tensors and the model's configuration. */
export type CheckpointFacts = Omit<Checkpoint, "model" | "tensors">;

/** Which weights of a checkpoint: the trained ones or their moving average. */
export type Weights = "trained" | "ema";

/** Before the first step. */
export function freshState(): RunState {
  return {
    step: 0,
    draws: 0,
    epochLoss: 0,
    epochCorrect: 0,
    bestAccuracy: 0,
    bestEmaAccuracy: 0,
    epochsSinceBest: 0,
  };
}

/** Writes model, its moving average, optimiser and state into one file, atomically. Without an optimiser it cannot be resumed. */
export function saveCheckpoint(
  path: string,
  { model, average, optimizer }: Pick<Trained, "model"> & Partial<Trained>,
  facts: CheckpointFacts,
): void {
  const tensors = new Map<string, Tensor>();
  for (const [name, t] of model.stateDict()) tensors.set(MODEL + name, t);
  for (const [name, t] of average?.stateDict() ?? []) tensors.set(EMA + name, t);
  for (const [name, t] of optimizer?.stateDict() ?? []) tensors.set(OPTIMIZER + name, t);
  const fields = Object.entries({ ...facts, model: model.config }).filter(([, value]) => value !== undefined);
  const metadata = new Map(fields.map(([key, value]) => [key, JSON.stringify(value)]));
  metadata.set("format", FORMAT);
  saveSafetensors(path, tensors, metadata.set(CHECKSUM, checksum(tensors, metadata)));
}

/** SHA-256 over all that a file holds but itself, in the order of names. */
function checksum(tensors: ReadonlyMap<string, Tensor>, metadata: ReadonlyMap<string, string>): string {
  const hash = createHash("sha256");
  for (const key of [...metadata.keys()].sort())
    if (key !== CHECKSUM) hash.update(JSON.stringify([key, metadata.get(key)]));
  for (const name of [...tensors.keys()].sort()) {
    const t = tensors.get(name) as Tensor;
    const { buffer, byteOffset, byteLength } = t.toTypedArray();
    hash
      .update(JSON.stringify([name, t.dtype, t.shape]))
      .update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}

/** @throws {FileError} naming the path, if a single bit of the file is damaged, or it is no checkpoint */
export function loadCheckpoint(path: string): Checkpoint {
  const { tensors, metadata } = loadSafetensors(path);
  const field = <T>(key: string, parse: (value: unknown) => T): T => {
    try {
      return parse(JSON.parse(metadata.get(key) ?? ""));
    } catch {
      throw new FileError(
        "loadCheckpoint",
        `${path}: ${key} is missing or damaged`,
        `a file that train wrote (${FORMAT})`,
      );
    }
  };
  try {
    if (metadata.get("format") !== FORMAT)
      throw new FileError(
        "loadCheckpoint",
        `${path}: is no checkpoint of this version`,
        FORMAT,
        metadata.get("format") ?? "no format",
      );
    if (metadata.get(CHECKSUM) !== checksum(tensors, metadata))
      throw new FileError(
        "loadCheckpoint",
        `${path}: is damaged: its contents do not have the checksum that it names`,
      );
    return {
      config: field("config", (value) => resolveTrainConfig(upgradeConfig(value))),
      model: field("model", (value) => resolveConfig(value as QuadMambaConfig)),
      prepare: field("prepare", (value) => preparationSchema.parse(value)),
      image: field("image", (value) => IMAGE.parse(value)),
      classes: field("classes", (value) => CLASSES.parse(value)),
      dataHash: metadata.has("dataHash") ? field("dataHash", (value) => z.string().parse(value)) : undefined,
      state: field("state", (value) => STATE.parse(value)),
      tensors,
    };
  } catch (error) {
    for (const t of tensors.values()) t.dispose();
    throw error;
  }
}

/** The part of a checkpoint's tensors whose names begin with `prefix`, without it. */
function part(tensors: ReadonlyMap<string, Tensor>, prefix: string): Map<string, Tensor> {
  const own = [...tensors].filter(([name]) => name.startsWith(prefix));
  return new Map(own.map(([name, t]) => [name.slice(prefix.length), t]));
}

/** The model of a checkpoint. @throws {FileError} if the average is asked for and the run kept none */
export function modelOf(checkpoint: Checkpoint, weights: Weights = "trained"): QuadMamba {
  requireOneOf("modelOf", "weights", weights, ["trained", "ema"]);
  if (weights === "ema" && checkpoint.config.ema === 0)
    throw new FileError("modelOf", "the checkpoint has no moving average", "a run with ema");
  const model = createQuadMamba(checkpoint.model);
  model.loadStateDict(part(checkpoint.tensors, weights === "ema" ? EMA : MODEL));
  return model;
}

/** Puts the optimiser and the generator where they were. */
export function restoreState({ tensors, state }: Checkpoint, optimizer: AdamW): void {
  optimizer.loadStateDict(part(tensors, OPTIMIZER), state.step);
  defaultGenerator.counter = state.draws;
}

export function disposeCheckpoint({ tensors }: Checkpoint): void {
  for (const t of tensors.values()) t.dispose();
}
