/** The models whose steps are timed, and how: each in a process of its own. */
import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Variant } from "../../lib/index.js";
import type { Row } from "../helpers/row.js";

export interface ModelCase {
  variant: Variant;
  channels: number;
  size: number;
  batch: number;
  classes: number;
}

export const MODELS: Record<string, ModelCase> = {
  "nano-32": { variant: "nano", channels: 1, size: 32, batch: 128, classes: 10 },
  "lite-32": { variant: "lite", channels: 3, size: 32, batch: 128, classes: 1000 },
  "lite-224": { variant: "lite", channels: 3, size: 224, batch: 8, classes: 1000 },
};

const CHILD = join(dirname(fileURLToPath(import.meta.url)), "step.js");

export function* modelRows(threads: number): Generator<Row> {
  for (const name of Object.keys(MODELS)) {
    const out = execFileSync(process.execPath, [CHILD, name, String(threads)], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    });
    yield* JSON.parse(out) as Row[];
  }
}
