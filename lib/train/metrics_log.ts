import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../io/atomic_write.js";

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

const COLUMNS = [
  "step",
  "epoch",
  "trainLoss",
  "trainAccuracy",
  "lr",
  "gradNorm",
  "imagesPerSecond",
  "dataShare",
  "testLoss",
  "testAccuracy",
  "emaTestLoss",
  "emaTestAccuracy",
] as const satisfies (keyof MetricsLine)[];

/** The metrics of a run as metrics.jsonl and metrics.csv. */
export class MetricsLog {
  readonly #jsonl: string;
  readonly #csv: string;

  /** Lines after `step`, of a run that goes on from there, are dropped: they will be written again. */
  constructor(folder: string, step: number) {
    this.#jsonl = join(folder, "metrics.jsonl");
    this.#csv = join(folder, "metrics.csv");
    const lines = existsSync(this.#jsonl) ? readFileSync(this.#jsonl, "utf8").split("\n") : [];
    const kept = lines.flatMap((line) => parse(line) ?? []).filter((line) => line.step <= step);
    writeFileAtomic(this.#jsonl, [Buffer.from(kept.map(json).join(""))]);
    writeFileAtomic(this.#csv, [Buffer.from(`${COLUMNS.join(",")}\n${kept.map(csv).join("")}`)]);
  }

  append(line: MetricsLine): void {
    appendFileSync(this.#jsonl, json(line));
    appendFileSync(this.#csv, csv(line));
  }
}

function json(line: MetricsLine): string {
  return `${JSON.stringify(line)}\n`;
}

function csv(line: MetricsLine): string {
  return `${COLUMNS.map((column) => line[column] ?? "").join(",")}\n`;
}

/** Nothing for a line that was cut short. */
function parse(line: string): MetricsLine | undefined {
  try {
    return JSON.parse(line) as MetricsLine;
  } catch {
    return undefined;
  }
}
