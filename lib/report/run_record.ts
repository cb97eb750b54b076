import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { asFileError } from "../io/atomic_write.js";
import { FileError } from "../util/errors.js";

const LINE = z.looseObject({ step: z.number(), epoch: z.number() });

/** A line of metrics.jsonl. Which figures it has depends on the version that wrote it. */
export type MetricsRow = z.output<typeof LINE>;

/** What a run wrote about itself. Files that are missing or damaged are `undefined` (or no metrics) and named in `leftOut`. */
export interface RunRecord {
  folder: string;
  name: string;
  metrics: MetricsRow[];
  config: Record<string, unknown> | undefined;
  environment: Record<string, unknown> | undefined;
  leftOut: string[];
}

/** @throws {FileError} if the folder holds neither metrics nor a configuration */
export function readRun(folder: string): RunRecord {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw new FileError("report", `${folder} is no folder`, "the folder of a run");
  const leftOut: string[] = [];
  const run: RunRecord = {
    folder,
    name: basename(resolve(folder)),
    metrics: readMetrics(join(folder, "metrics.jsonl"), leftOut),
    config: readObject(join(folder, "config.json"), leftOut),
    environment: readObject(join(folder, "environment.json"), leftOut),
    leftOut,
  };
  if (run.metrics.length === 0 && run.config === undefined)
    throw new FileError(
      "report",
      `${folder} holds no run`,
      "config.json and metrics.jsonl, which train writes",
    );
  return run;
}

function readMetrics(path: string, leftOut: string[]): MetricsRow[] {
  const text = read(path, leftOut);
  if (text === undefined) return [];
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const rows = lines.flatMap((line) => {
    const row = LINE.safeParse(parsed(line));
    return row.success ? [row.data] : [];
  });
  const broken = lines.length - rows.length;
  if (broken > 0) leftOut.push(`${broken} of ${lines.length} lines of ${path}, which are damaged`);
  return rows.sort((a, b) => a.step - b.step);
}

function readObject(path: string, leftOut: string[]): Record<string, unknown> | undefined {
  const text = read(path, leftOut);
  if (text === undefined) return undefined;
  const value = parsed(text);
  if (value !== null && typeof value === "object" && !Array.isArray(value))
    return value as Record<string, unknown>;
  leftOut.push(`${path}, which is damaged`);
  return undefined;
}

function read(path: string, leftOut: string[]): string | undefined {
  if (!existsSync(path)) {
    leftOut.push(`${path}, which is missing`);
    return undefined;
  }
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw asFileError("report", path, "could not be read", error);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A figure of a row, if it is there and a finite number. */
export function figure(row: MetricsRow, key: string): number | undefined {
  const value = row[key];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** The row in which a figure is largest; the first of equals. */
export function bestRow(rows: readonly MetricsRow[], key: string): MetricsRow | undefined {
  const withFigure = rows.filter((row) => figure(row, key) !== undefined);
  return withFigure.reduce<MetricsRow | undefined>(
    (best, row) => (best && (figure(best, key) as number) >= (figure(row, key) as number) ? best : row),
    undefined,
  );
}
