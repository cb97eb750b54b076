import { nearest } from "../util/check.js";
import { ConfigError, show } from "../util/errors.js";
import type { TrainOptions } from "./config.js";

type Preset = Omit<TrainOptions, "preset">;

/** The paper's recipe for classification; the learning rates hold for 1024 images per step. */
const IMAGENET: Preset = {
  data: "folder:imagenet",
  imageSize: 224,
  fit: "crop",
  cropShare: 0.875,
  interpolation: "bicubic",
  augment: {
    resizedCrop: {},
    flip: 0.5,
    randAugment: "rand-m9-mstd0.5-inc1",
    colorJitter: 0.4,
    erase: 0.25,
    eraseMode: "pixel",
    mixup: 0.8,
    cutmix: 1,
  },
  epochs: 300,
  batchSize: 1024,
  lr: 1e-3,
  minLr: 1e-5,
  warmupLr: 1e-6,
  lrBatchSize: 1024,
  warmup: "20 epochs",
  weightDecay: 0.05,
  labelSmoothing: 0.1,
  clip: 5,
  ema: 0.9999,
};

/** Small images brought to 64 x 64, for a GPU. */
const SMALL_IMAGES: Preset = {
  imageSize: 64,
  fit: "resize",
  interpolation: "bilinear",
  batchSize: 512,
  lr: 2e-3,
  ema: 0.999,
  prefetch: 8,
};

/** Recipes by name. Drop path rates of imagenet-tiny and -small are the released ones. */
export const PRESETS: Record<string, Preset> = {
  "imagenet-lite": { ...IMAGENET, model: { variant: "lite", dropPathRate: 0.1 } },
  "imagenet-tiny": { ...IMAGENET, model: { variant: "tiny", dropPathRate: 0.2 } },
  "imagenet-small": { ...IMAGENET, model: { variant: "small", dropPathRate: 0.3 } },
  "imagenet-base": { ...IMAGENET, model: { variant: "base", dropPathRate: 0.5 } },
  cifar10: {
    data: "cifar10:cifar10",
    model: { variant: "lite", dropPathRate: 0.1 },
    imageSize: 64,
    fit: "resize",
    interpolation: "bilinear",
    augment: { shift: 4, flip: 0.5 },
    epochs: 45,
    batchSize: 512,
    lr: 2e-3,
  },
  "cifar10-strong": {
    ...SMALL_IMAGES,
    data: "cifar10:cifar10",
    model: { variant: "tiny", dropPathRate: 0.1 },
    augment: {
      shift: 4,
      flip: 0.5,
      randAugment: "rand-m9-mstd0.5-inc1",
      erase: 0.25,
      mixup: 0.8,
      cutmix: 1,
      mixProbability: 0.5,
    },
    epochs: 130,
  },
  "fashion-mnist": {
    data: "fashion-mnist",
    augment: { flip: 0.5 },
  },
  "fashion-mnist-strong": {
    ...SMALL_IMAGES,
    data: "fashion-mnist",
    model: { variant: "lite", dropPathRate: 0.1 },
    augment: { shift: 2, flip: 0.5, erase: 0.25, mixup: 0.8, cutmix: 1, mixProbability: 0.3 },
    epochs: 50,
  },
  mnist: {
    data: "mnist",
    augment: { shift: 2 },
    epochs: 2,
    batchSize: 128,
    lr: 2e-3,
  },
};

/**
 * The given keys over those of the preset that `preset` names. A model given by the name of a variant replaces the preset's, with
 * its drop path rate.
 * @throws {ConfigError} for an unknown preset, with the nearest name
 */
export function withPreset(given: unknown, where: string): unknown {
  if (!isRecord(given)) return given;
  if (given.preset === undefined) return withoutNulls(given);
  const { preset, ...own } = given;
  if (typeof preset !== "string" || !Object.hasOwn(PRESETS, preset)) {
    const names = Object.keys(PRESETS);
    const hint = typeof preset === "string" ? nearest(preset, names) : undefined;
    throw new ConfigError(
      where,
      `unknown preset${hint ? ` (did you mean ${hint}?)` : ""}`,
      names.join(", "),
      show(preset),
    );
  }
  return withoutNulls(mergeKeys(PRESETS[preset], own));
}

/** The keys of `above` over those of `below`, objects key by key. A null stays, to take a key back from what may lie below them both. */
export function mergeKeys(
  below: Record<string, unknown>,
  above: Record<string, unknown>,
): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...below };
  for (const [key, value] of Object.entries(above)) {
    if (value === undefined) continue;
    const old = merged[key];
    merged[key] = isRecord(old) && isRecord(value) ? mergeKeys(old, value) : value;
  }
  return merged;
}

function withoutNulls(keys: Record<string, unknown>): Record<string, unknown> {
  const kept = Object.entries(keys).filter(([, value]) => value !== null);
  return Object.fromEntries(kept.map(([key, value]) => [key, isRecord(value) ? withoutNulls(value) : value]));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}
