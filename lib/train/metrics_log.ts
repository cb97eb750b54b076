import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../io/atomic_write.js";
import { EventFile } from "./tensorboard.js";

/** A line of metrics.jsonl: after every few steps, and with the test figures at the end of an epoch. */
export interface MetricsLine {
  step: number;
  epoch: number;
  trainLoss: number;
  trainAccuracy: number;
  lr: number;
  gradNorm?: number;
  imagesPerSecond?: number;
  dataShare?: number;
  testLoss?: number;
  testAccuracy?: number;
  emaTestLoss?: number;
  emaTestAccuracy?: number;
}

/** The columns of metrics.csv, and their tags in TensorBoard. */
const COLUMNS = {
  step: undefined,
  epoch: "train/epoch",
  trainLoss: "train/loss",
  trainAccuracy: "train/accuracy",
  lr: "train/lr",
  gradNorm: "train/grad_norm",
  imagesPerSecond: "speed/images_per_second",
  dataShare: "speed/data_share",
  testLoss: "test/loss",
  testAccuracy: "test/accuracy",
  emaTestLoss: "test/ema_loss",
  emaTestAccuracy: "test/ema_accuracy",
} as const satisfies Record<keyof MetricsLine, string | undefined>;
const NAMES = Object.keys(COLUMNS) as (keyof MetricsLine)[];

/** The metrics of a run as metrics.jsonl, metrics.csv and TensorBoard's events. */
export class MetricsLog {
  readonly #jsonl: string;
  readonly #csv: string;
  readonly #events: EventFile;

  /** Lines after `step`, of a run that goes on from there, are dropped: they will be written again. */
  constructor(folder: string, step: number) {
    this.#jsonl = join(folder, "metrics.jsonl");
    this.#csv = join(folder, "metrics.csv");
    const lines = existsSync(this.#jsonl) ? readFileSync(this.#jsonl, "utf8").split("\n") : [];
    const kept = lines.flatMap((line) => parse(line) ?? []).filter((line) => line.step <= step);
    writeFileAtomic(this.#jsonl, [Buffer.from(kept.map(json).join(""))]);
    writeFileAtomic(this.#csv, [Buffer.from(`${NAMES.join(",")}\n${kept.map(csv).join("")}`)]);
    this.#events = new EventFile(folder, step + 1);
  }

  append(line: MetricsLine): void {
    appendFileSync(this.#jsonl, json(line));
    appendFileSync(this.#csv, csv(line));
    this.#events.append(line.step, scalars(line));
  }
}

function json(line: MetricsLine): string {
  return `${JSON.stringify(line)}\n`;
}

function csv(line: MetricsLine): string {
  return `${NAMES.map((name) => line[name] ?? "").join(",")}\n`;
}

function scalars(line: MetricsLine): Map<string, number> {
  return new Map(
    NAMES.flatMap((name) => {
      const [tag, value] = [COLUMNS[name], line[name]];
      return tag === undefined || value === undefined ? [] : [[tag, value] as const];
    }),
  );
}

/** Nothing for a line that was cut short. */
function parse(line: string): MetricsLine | undefined {
  try {
    return JSON.parse(line) as MetricsLine;
  } catch {
    return undefined;
  }
}
