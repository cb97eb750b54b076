import { InvalidArgumentError, Option } from "commander";
import { PRECISIONS } from "../train/placement.js";

/** A whole number of at least `min`, for commander. */
export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < min || value > max)
      throw new InvalidArgumentError(
        `expected a whole number ${max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`}.`,
      );
    return value;
  };
}

/** A comma list, for commander; what is given twice counts once. */
export function listOf<T>(one: (text: string) => T): (text: string) => T[] {
  return (text) => [...new Set(text.split(",").map((part) => one(part.trim())))];
}

/** One of the names, for commander. */
export function nameOf<T extends string>(names: readonly T[]): (text: string) => T {
  return (text) => {
    const found = names.find((name) => name === text);
    if (found === undefined) throw new InvalidArgumentError(`expected ${names.join(", ")}.`);
    return found;
  };
}

/** A number of at least 0, for commander. */
export function positiveNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0)
    throw new InvalidArgumentError("expected a number of at least 0.");
  return value;
}

/** `--device` and `--precision`, of every command that runs a model. */
export function placementOptions(): Option[] {
  return [
    deviceOption(),
    new Option("--precision <precision>", "on cuda: tf32 or bf16 for speed (default: fp32)").choices([
      ...PRECISIONS,
    ]),
  ];
}

/** `--device`, of what computes in float32 only. */
export function deviceOption(): Option {
  return new Option("--device <device>", "where to compute (default: cpu)").choices(["cpu", "cuda"]);
}

/** `--weights`, of the commands that read a checkpoint. */
export function weightsOption(): Option {
  return new Option("--weights <which>", "the trained ones or, of a run with ema, their moving average")
    .choices(["trained", "ema"])
    .default("trained");
}
