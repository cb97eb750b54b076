/** Files of rows, and two of them side by side. */
import { readFileSync } from "node:fs";
import type { Row } from "./row.js";

/** Where `npm run bench` writes unless told otherwise. */
export const LAST_RESULTS = "bench-results/bench.json";

export interface Results {
  machine: Record<string, unknown>;
  rows: Row[];
}

/** @throws an error of one line if it is no file of results */
export function readResults(path: string): Results {
  let found: Partial<Results>;
  try {
    found = JSON.parse(readFileSync(path, "utf8")) as Partial<Results>;
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
  const { machine = {}, rows } = found;
  if (!Array.isArray(rows) || !rows.every(isRow))
    throw new Error(`${path}: no results of a bench; expected {"rows": [{group, name, ms, p10, p90}, ...]}`);
  return { machine, rows };
}

function isRow(row: unknown): row is Row {
  if (row === null || typeof row !== "object") return false;
  const { group, name, ms, p10, p90 } = row as Partial<Row>;
  return typeof group === "string" && typeof name === "string" && [ms, p10, p90].every(Number.isFinite);
}

export interface Change {
  name: string;
  base: Row;
  next: Row;
  /** Time of the new one over that of the old one: under 1 is faster. */
  ratio: number;
  /** The ratio if both were off by their spread: p10 over p90, and p90 over p10. */
  low: number;
  high: number;
}

/** Rows that both have, by group, name and images. */
export function changes(base: readonly Row[], next: readonly Row[]): Change[] {
  const before = named(base);
  return [...named(next)].flatMap(([key, row]) => {
    const old = before.get(key);
    if (old === undefined) return [];
    const ratio = row.ms / old.ms;
    return [{ name: key, base: old, next: row, ratio, low: row.p10 / old.p90, high: row.p90 / old.p10 }];
  });
}

/** An indented row ("  dx ...") has the name of the one above it in front. */
function named(rows: readonly Row[]): Map<string, Row> {
  const found = new Map<string, Row>();
  let head = "";
  for (const row of rows) {
    const indented = row.name.startsWith(" ");
    if (!indented) head = row.name;
    const full = indented ? `${head} /${row.name}` : row.name;
    found.set(`${row.group}: ${full}${row.images ? `, batch ${row.images}` : ""}`, row);
  }
  return found;
}

/** A change counts only beyond the spread of both runs. */
export function verdict({ low, high }: Change): string {
  if (high < 1) return "faster";
  return low > 1 ? "slower" : "within the noise";
}

/** What differs between the machines, or in how they were used, one line each. */
export function differences(base: Results["machine"], next: Results["machine"]): string[] {
  return ["cpu", "device", "threads", "isa", "node", "compiler"].flatMap((key) => {
    const [before, after] = [nameOf(base[key]), nameOf(next[key])];
    return before === after ? [] : [`${key}: ${before ?? "unknown"}, then ${after ?? "unknown"}`];
  });
}

/** Of a GPU its name: free memory differs from run to run. */
function nameOf(value: unknown): unknown {
  return value !== null && typeof value === "object" && "name" in value ? value.name : value;
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
