import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { augmentSchema } from "../data/augment/spec.js";
import { DATASET_NAMES } from "../data/index.js";
import type { QuadMambaConfig, Variant } from "../models/quadmamba/config.js";
import { nearest } from "../util/check.js";
import { ConfigError } from "../util/errors.js";
import { withPreset } from "./presets.js";

const whole = (min: number) => z.number().int().min(min);
const share = z.number().min(0).max(1);

/** The recipe. Defaults are those of the Fashion-MNIST anchor. */
export const configSchema = z.strictObject({
  data: z
    .string()
    .default("mnist")
    .describe(`Data set: ${DATASET_NAMES.join(", ")}.`),
  model: z
    .union([z.string(), z.looseObject({})], { error: "expected the name of a variant, or an object" })
    .default("nano")
    .describe("Variant (nano, lite, tiny, small, base), or the keys of the model that differ from it."),
  imageSize: whole(8).default(32).describe("Side of the square that images are brought to, in pixels."),
  fit: z
    .enum(["pad", "resize", "crop"])
    .default("pad")
    .describe(
      "How images come to that square: centred on black, resized, or resized and cropped in the centre.",
    ),
  cropShare: z
    .number()
    .positive()
    .max(1)
    .default(0.875)
    .describe("With fit crop: side of the square over the shorter side of the resized image."),
  interpolation: z.enum(["nearest", "bilinear", "bicubic"]).default("bicubic").describe("Of that resizing."),
  augment: augmentSchema.prefault({}).describe("Random changes to training images; all off by default."),
  damaged: z
    .enum(["fail", "skip"])
    .default("fail")
    .describe(
      "An image file that cannot be read: the run's end, or left out of training (up to 1 % of all).",
    ),
  workers: whole(0)
    .max(256)
    .optional()
    .describe(
      "Threads that prepare images; 0: the main one. By default 0 for images that need no decoding on the CPU, else all cores but one, at most 16.",
    ),
  prefetch: whole(1).max(64).default(2).describe("Batches that are prepared ahead."),
  epochs: whole(1).default(3).describe("Passes over the training images."),
  batchSize: whole(1).default(256).describe("Images per step."),
  accumulate: whole(1)
    .default(1)
    .describe("Parts that a step's batch is computed in, one after the other: memory for time."),
  evalBatchSize: whole(1).default(500).describe("Images at a time in evaluation."),
  lr: z.number().positive().default(1e-3).describe("Peak learning rate."),
  minLr: z.number().min(0).default(1e-5).describe("Where the cosine ends."),
  warmupLr: z.number().min(0).default(0).describe("Where the warm-up starts."),
  lrBatchSize: whole(1)
    .optional()
    .describe(
      "Batch size that the three learning rates are meant for: they are multiplied by batchSize / lrBatchSize. By default they hold as they are.",
    ),
  warmup: z
    .union([share, z.string()])
    .refine((value) => typeof value === "number" || /^\d+(\.\d+)? epochs?$/.test(value), {
      error: "expected a share from 0 to 1, or a text such as 20 epochs",
    })
    .default(0.05)
    .describe("Over which the learning rate rises: a share of all steps, or a text such as 20 epochs."),
  weightDecay: z
    .number()
    .min(0)
    .default(0.05)
    .describe(
      "Decoupled weight decay. One-dimensional parameters and biases never decay, A_logs only with decayALogs.",
    ),
  decayALogs: z.boolean().default(false).describe("Also decay A_logs, as the released training script does."),
  layerDecay: z
    .number()
    .positive()
    .max(1)
    .default(1)
    .describe("Factor of the learning rate from each block to the one before it, for fine-tuning."),
  betas: z
    .tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)])
    .default([0.9, 0.999])
    .describe("Decay of AdamW's two running moments."),
  labelSmoothing: share.default(0.1).describe("Share of the target that is spread over all classes."),
  clip: z.number().positive().default(5).describe("Largest norm of all gradients together."),
  ema: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe("Decay of a moving average of the weights, evaluated and saved beside them; 0 for none."),
  checkpointing: z
    .boolean()
    .default(false)
    .describe("Compute each block's activations again in backward instead of keeping them: memory for time."),
  patience: whole(0)
    .default(0)
    .describe("Epochs without a better test accuracy after which the run ends; 0: it goes to its end."),
  seed: whole(0).default(0).describe("Seed of everything random."),
  device: z.enum(["cpu", "cuda"]).default("cpu").describe("Where to compute."),
  precision: z
    .enum(["fp32", "tf32", "bf16"])
    .default("fp32")
    .describe(
      "On cuda also tf32 (products rounded for the tensor cores) and bf16 (activations in bfloat16; parameters, states, statistics and losses stay float32).",
    ),
  graph: z.boolean().default(true).describe("Record the step as a graph, where the device can."),
  threads: whole(1).max(256).optional().describe("CPU threads that compute; all cores by default."),
  logEvery: whole(1).default(20).describe("Steps between two lines of metrics.jsonl."),
  saveEvery: whole(0)
    .default(0)
    .describe("Steps between two saves, besides those at the end of every epoch; 0 for none."),
  keep: whole(1)
    .default(2)
    .describe("Newest checkpoints to keep; a damaged one then costs a few steps only."),
});

/** Keys that results do not depend on: a run may go on with others. */
export const FREE_KEYS = [
  "workers",
  "prefetch",
  "evalBatchSize",
  "graph",
  "threads",
  "logEvery",
  "saveEvery",
  "keep",
] as const satisfies readonly (keyof TrainConfig)[];

export type TrainConfig = Omit<z.output<typeof configSchema>, "model"> & { model: ModelChoice };
/** What a user gives: any of the keys, and a preset for the others. */
export type TrainOptions = Partial<Omit<z.input<typeof configSchema>, "model">> & {
  model?: ModelChoice;
  preset?: string;
};
type ModelChoice = Variant | (Partial<QuadMambaConfig> & { variant?: Variant });

/**
 * A whole, checked configuration: the given keys over those of the preset that they name, over the defaults.
 * @throws {ConfigError} naming each key that does not fit, and the nearest valid one
 */
export function resolveTrainConfig(given: unknown, where = "train"): TrainConfig {
  const result = configSchema.safeParse(withPreset(given ?? {}, where));
  if (!result.success) throw new ConfigError(where, result.error.issues.map(explain).join("; "));
  const config = result.data as TrainConfig;
  if (config.batchSize % config.accumulate !== 0)
    throw new ConfigError(
      where,
      "accumulate does not divide batchSize",
      `a divisor of ${config.batchSize}`,
      `${config.accumulate}`,
    );
  if (typeof config.warmup === "string" && Number.parseFloat(config.warmup) > config.epochs)
    throw new ConfigError(
      where,
      "warmup is longer than the run",
      `at most ${config.epochs} epochs, or a share`,
      config.warmup,
    );
  return config;
}

/** Keys on which two configurations of one run disagree, with both values. */
export function configDifferences(there: TrainConfig, here: TrainConfig): string[] {
  const free: readonly string[] = FREE_KEYS;
  return Object.keys(configSchema.shape).flatMap((key) => {
    const [a, b] = [there, here].map((config) => config[key as keyof TrainConfig]);
    if (free.includes(key) || isDeepStrictEqual(a, b)) return [];
    return `${key} ${JSON.stringify(a)} there, ${JSON.stringify(b)} here`;
  });
}

/** The configuration of an older file: `flip` and `shift` stood beside `augment` once. */
export function upgradeConfig(config: unknown): unknown {
  if (config === null || typeof config !== "object" || "augment" in config) return config;
  const { flip, shift, ...rest } = config as { flip?: boolean; shift?: number };
  return { ...rest, augment: { flip: flip ? 0.5 : 0, shift: shift ?? 0 } };
}

function explain(issue: z.core.$ZodIssue): string {
  const place = issue.path.join(".");
  if (issue.code !== "unrecognized_keys") return `${place || "configuration"}: ${issue.message}`;
  const schema = place === "augment" ? augmentSchema : configSchema;
  const known = Object.keys(schema.shape);
  return issue.keys
    .map((key) => {
      const name = place ? `${place}.${key}` : key;
      if (!place && key in augmentSchema.shape) return `unknown key ${key} (did you mean augment.${key}?)`;
      const hint = nearest(key, known);
      return `unknown key ${name}${hint ? ` (did you mean ${hint}?)` : `; known are ${known.join(", ")}`}`;
    })
    .join("; ");
}
