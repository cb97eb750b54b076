/**
 * Errors as data. Every message reads `op: what is wrong; expected rule = values, got value`, and the same
 * facts are fields, so that callers can match on the class and on `op`, `expected` and `got`.
 */
export class QuadMambaError extends Error {
  readonly op: string;
  readonly expected: string | undefined;
  readonly got: string | undefined;

  constructor(op: string, problem: string, expected?: string, got?: string) {
    const detail = [expected && `expected ${expected}`, got !== undefined && `got ${got}`].filter(Boolean);
    super(`${op}: ${problem}${detail.length > 0 ? `; ${detail.join(", ")}` : ""}`);
    this.name = new.target.name;
    this.op = op;
    this.expected = expected;
    this.got = got;
  }
}

/** A shape, rank, axis or size breaks a rule of the op. */
export class ShapeError extends QuadMambaError {}
/** A dtype is not accepted by the op, or two dtypes differ. */
export class DTypeError extends QuadMambaError {}
/** Tensors on different devices, or a device that is not there. */
export class DeviceError extends QuadMambaError {}
/** An argument that is no shape and no dtype: a wrong option, NaN, a foreign object. */
export class ArgumentError extends QuadMambaError {}
/** An index or label outside of its range. */
export class IndexError extends QuadMambaError {}
/** A tensor was used after `dispose()` or after its scope ended. */
export class DisposedError extends QuadMambaError {}
/** The byte budget or the machine's memory is exhausted. */
export class OutOfMemoryError extends QuadMambaError {}
/** Gradients asked of a graph that has none, or was freed already. */
export class AutogradError extends QuadMambaError {}
/** The addon cannot be loaded, or reports a fault of its own. */
export class NativeError extends QuadMambaError {}
/** A file is missing, damaged or of another format. `op` is the reader, the message names the path. */
export class FileError extends QuadMambaError {}
/** Images cannot be loaded any more: a worker died, or too many files are damaged. */
export class LoaderError extends QuadMambaError {}
/** A configuration, flag or state dict does not fit. */
export class ConfigError extends QuadMambaError {}
/** A training run cannot go on. */
export class TrainingError extends QuadMambaError {}

/** `value` as it reads best in an error message. */
export function show(value: unknown, depth = 0): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "symbol" || typeof value === "function") return typeof value;
  if (Array.isArray(value)) {
    if (depth > 3) return "[...]"; // also ends an array that holds itself
    const shown = value
      .slice(0, 12)
      .map((item) => show(item, depth + 1))
      .join(", ");
    return `[${shown}${value.length > 12 ? ", ..." : ""}]`;
  }
  if (value !== null && typeof value === "object") {
    const name = Object.getPrototypeOf(value)?.constructor?.name;
    return typeof name === "string" && name !== "" ? name : "object";
  }
  return String(value);
}
