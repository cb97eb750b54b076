import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import type { QuadMambaConfig, Variant } from "../models/quadmamba/config.js";
import { nearest } from "../util/check.js";
import { ConfigError, FileError } from "../util/errors.js";

const whole = (min: number) => z.number().int().min(min);

/** The recipe. Defaults are those of the Fashion-MNIST anchor; `flip` is on for clothes and off for digits. */
const schema = z.strictObject({
  /** mnist, fashion-mnist or idx:DIR */
  data: z.string().default("mnist"),
  /** A variant, or the keys of the model's configuration that differ from it. */
  model: z
    .union([z.string(), z.looseObject({})], { error: "expected the name of a variant, or an object" })
    .default("nano"),
  /** Side of the square that images are centred on, in pixels. */
  imageSize: whole(8).default(32),
  epochs: whole(1).default(3),
  batchSize: whole(1).default(256),
  evalBatchSize: whole(1).default(500),
  /** Peak learning rate. */
  lr: z.number().positive().default(1e-3),
  /** Where the cosine ends. */
  minLr: z.number().min(0).default(1e-5),
  /** Share of all steps over which the learning rate rises. */
  warmup: z.number().min(0).max(1).default(0.05),
  weightDecay: z.number().min(0).default(0.05),
  /** Also decay A_logs, as the released training script does. One-dimensional parameters never decay. */
  decayALogs: z.boolean().default(false),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.999]),
  labelSmoothing: z.number().min(0).max(1).default(0.1),
  /** Largest norm of all gradients together. */
  clip: z.number().positive().default(5),
  /** Decay of an exponential moving average of the weights, which is evaluated and saved beside them; 0 for none. */
  ema: z.number().min(0).lt(1).default(0),
  /** Mirror images at random. */
  flip: z.boolean().optional(),
  /** Move images at random by up to this many pixels. */
  shift: whole(0).default(0),
  seed: whole(0).default(0),
  device: z.enum(["cpu", "cuda"]).default("cpu"),
  /**
   * On cuda also tf32 (float32, products rounded for the tensor cores) and bf16 (activations in bfloat16; parameters, states,
   * statistics and losses stay float32).
   */
  precision: z.enum(["fp32", "tf32", "bf16"]).default("fp32"),
  /** Record the training step as a graph, where the device can. Results do not depend on it. */
  graph: z.boolean().default(true),
  /** CPU threads; all cores by default. They do not change results. */
  threads: whole(1).max(256).optional(),
  /** Steps between two lines of metrics.jsonl. */
  logEvery: whole(1).default(20),
  /** Steps between two saves, besides those at the end of every epoch; 0 for none. */
  saveEvery: whole(0).default(0),
});

export type TrainConfig = Omit<z.output<typeof schema>, "model" | "flip"> & {
  flip: boolean;
  model: Variant | (Partial<QuadMambaConfig> & { variant?: Variant });
};
export type TrainOptions = Partial<TrainConfig>;

/** A whole, checked configuration. @throws {ConfigError} naming each key that does not fit, and the nearest valid one */
export function resolveTrainConfig(given: unknown, where = "train"): TrainConfig {
  const result = schema.safeParse(given ?? {});
  if (!result.success) throw new ConfigError(where, result.error.issues.map(explain).join("; "));
  const { flip, ...config } = result.data;
  return {
    ...config,
    flip: flip ?? config.data === "fashion-mnist",
  } as TrainConfig;
}

function explain(issue: z.core.$ZodIssue): string {
  if (issue.code !== "unrecognized_keys")
    return `${issue.path.join(".") || "configuration"}: ${issue.message}`;
  const known = Object.keys(schema.shape);
  return issue.keys
    .map((key) => {
      const hint = nearest(key, known);
      return `unknown key ${key}${hint ? ` (did you mean ${hint}?)` : `; known are ${known.join(", ")}`}`;
    })
    .join("; ");
}

/** The keys of a YAML or JSON file (JSON is YAML). */
export function readConfigFile(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new FileError("config", `${path} could not be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new ConfigError("config", `${path}: ${(error as Error).message.split("\n")[0]}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new ConfigError("config", `${path} holds no keys`, "key: value lines");
  return value as Record<string, unknown>;
}
