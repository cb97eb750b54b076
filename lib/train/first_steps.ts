import { createHash } from "node:crypto";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../io/atomic_write.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import type { StepResult } from "./step.js";

/** How many steps a run records so that they can be repeated. */
export const FIRST_STEPS = 20;

/** What a step came to, to the last bit. */
export interface StepRecord {
  step: number;
  loss: number;
  gradNorm: number;
  /** SHA-256 of the weights after the last of these steps. */
  weights?: string;
}

/** The first steps of a run, as lines of first_steps.jsonl. */
export class FirstSteps {
  readonly #path: string;
  readonly #last: number;

  /** Lines after `step`, of a run that goes on from there, are dropped: they will be written again. */
  constructor(folder: string, { step, steps }: { step: number; steps: number }) {
    this.#path = join(folder, "first_steps.jsonl");
    this.#last = Math.min(FIRST_STEPS, steps);
    if (step >= this.#last) return;
    const kept = readFirstSteps(folder).filter((record) => record.step <= step);
    writeFileAtomic(this.#path, [Buffer.from(kept.map(line).join(""))]);
  }

  append(step: number, { loss, gradNorm }: StepResult, model: QuadMamba): void {
    if (step > this.#last) return;
    const weights = step === this.#last ? hashWeights(model) : undefined;
    appendFileSync(this.#path, line({ step, loss, gradNorm, weights }));
  }
}

export function readFirstSteps(folder: string): StepRecord[] {
  const path = join(folder, "first_steps.jsonl");
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((text) => {
      try {
        return [JSON.parse(text) as StepRecord];
      } catch {
        return []; // cut short by the end of the process
      }
    });
}

function line(record: StepRecord): string {
  return `${JSON.stringify(record)}\n`;
}

function hashWeights(model: QuadMamba): string {
  const hash = createHash("sha256");
  for (const [name, t] of model.stateDict()) {
    const { buffer, byteOffset, byteLength } = t.toTypedArray();
    hash.update(name).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}
