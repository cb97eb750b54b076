import type { Preparation } from "../data/index.js";
import { loadSafetensors, saveSafetensors } from "../io/safetensors.js";
import type { QuadMambaConfig } from "../models/quadmamba/config.js";
import { createQuadMamba, type QuadMamba } from "../models/quadmamba/model.js";
import type { AdamW } from "../optim/index.js";
import { defaultGenerator } from "../tensor/random.js";
import type { Tensor } from "../tensor/tensor.js";
import { FileError } from "../util/errors.js";
import type { TrainConfig } from "./config.js";

const FORMAT = "quadmamba checkpoint 1";
const MODEL = "model.";
const OPTIMIZER = "optimizer.";

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
}

export interface Checkpoint {
  config: TrainConfig;
  model: QuadMambaConfig;
  prepare: Preparation;
  classes: readonly string[];
  state: RunState;
  tensors: Map<string, Tensor>;
}

/** Writes model, optimiser and state into one file, atomically. */
export function saveCheckpoint(
  path: string,
  model: QuadMamba,
  optimizer: AdamW,
  facts: {
    config: TrainConfig;
    prepare: Preparation;
    classes: readonly string[];
    state: RunState;
  },
): void {
  const tensors = new Map<string, Tensor>();
  for (const [name, t] of model.stateDict()) tensors.set(MODEL + name, t);
  for (const [name, t] of optimizer.stateDict()) tensors.set(OPTIMIZER + name, t);
  const text = Object.entries({ ...facts, model: model.config }).map(([key, value]) => [
    key,
    JSON.stringify(value),
  ]);
  saveSafetensors(path, tensors, {
    format: FORMAT,
    ...Object.fromEntries(text),
  });
}

/** @throws {FileError} naming the path, if the file is damaged or no checkpoint */
export function loadCheckpoint(path: string): Checkpoint {
  const { tensors, metadata } = loadSafetensors(path);
  const field = (key: string) => {
    try {
      return JSON.parse(metadata.get(key) ?? "");
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
    return {
      config: field("config"),
      model: field("model"),
      prepare: field("prepare"),
      classes: field("classes"),
      state: field("state"),
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

/** The model of a checkpoint, with its weights. */
export function modelOf(checkpoint: Checkpoint): QuadMamba {
  const model = createQuadMamba(checkpoint.model);
  model.loadStateDict(part(checkpoint.tensors, MODEL));
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
