import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { FileError } from "../util/errors.js";
import { readFirstSteps, type StepRecord } from "./first_steps.js";
import type { TrainObserver } from "./observer.js";
import { RunFolder } from "./run_folder.js";
import { train } from "./trainer.js";

export interface Verification {
  /** How many steps were repeated. */
  steps: number;
  /** What came out otherwise, for the first step that differs; empty if nothing did. */
  differences: string[];
  /** What is otherwise about this machine, program or data. */
  environment: string[];
}

/** Of environment.json: what differs between runs that are the same. */
const INCIDENTAL = ["begun", "arguments", "memoryBytes"];

/**
 * Repeats the first steps of a run from its seed and compares losses, gradient norms and weights with those that it recorded, to the
 * last bit. The run's folder is only read.
 * @throws {FileError} if the folder holds no run, or one without a step
 */
export async function verifyRun(path: string, observer: TrainObserver = {}): Promise<Verification> {
  const folder = new RunFolder(path);
  const config = folder.readConfig();
  const recorded = readFirstSteps(path);
  if (recorded.length === 0)
    throw new FileError("verifyRun", `${path} has recorded no steps`, "first_steps.jsonl of a run");
  const stop = new AbortController();
  const out = mkdtempSync(join(tmpdir(), "quadmamba-verify-"));
  try {
    await train(config, {
      out,
      signal: stop.signal,
      observer: {
        ...observer,
        step(at) {
          observer.step?.(at);
          if (at.step >= recorded.length) stop.abort();
        },
      },
    });
    return {
      steps: recorded.length,
      differences: firstDifference(recorded, readFirstSteps(out)),
      environment: environmentDifferences(path, out),
    };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

function firstDifference(recorded: StepRecord[], repeated: StepRecord[]): string[] {
  for (let k = 0; k < recorded.length; k++) {
    const differing = (["loss", "gradNorm", "weights"] as const).filter(
      (key) => recorded[k][key] !== undefined && recorded[k][key] !== repeated[k]?.[key],
    );
    if (differing.length > 0)
      return differing.map(
        (key) => `step ${recorded[k].step}: ${key} was ${recorded[k][key]}, is ${repeated[k]?.[key]}`,
      );
  }
  return [];
}

function environmentDifferences(there: string, here: string): string[] {
  const [a, b] = [there, here].map(
    (folder) => JSON.parse(readFileSync(join(folder, "environment.json"), "utf8")) as Record<string, unknown>,
  );
  return Object.keys({ ...a, ...b })
    .filter((key) => !INCIDENTAL.includes(key) && !isDeepStrictEqual(a[key], b[key]))
    .map((key) => `${key} was ${JSON.stringify(a[key])}, is ${JSON.stringify(b[key])}`);
}
