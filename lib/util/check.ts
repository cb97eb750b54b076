import { ArgumentError, show } from "./errors.js";

/** A finite number, optionally within bounds; otherwise an {@link ArgumentError} naming `what`. */
export function requireNumber(
  op: string,
  what: string,
  value: unknown,
  min = -Infinity,
  max = Infinity,
): number {
  if (typeof value !== "number" || !Number.isFinite(value) || value < min || value > max)
    throw new ArgumentError(op, `${what} is not valid`, `a finite number${bounds(min, max)}`, show(value));
  return value;
}

/** A safe integer, optionally within bounds. */
export function requireInteger(
  op: string,
  what: string,
  value: unknown,
  min = -Infinity,
  max = Infinity,
): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max)
    throw new ArgumentError(op, `${what} is not valid`, `an integer${bounds(min, max)}`, show(value));
  return value;
}

export function requireBoolean(op: string, what: string, value: unknown): boolean {
  if (typeof value !== "boolean")
    throw new ArgumentError(op, `${what} is not valid`, "true or false", show(value));
  return value;
}

export function requireFunction(op: string, what: string, value: unknown): void {
  if (typeof value !== "function")
    throw new ArgumentError(op, `${what} is not valid`, "a function", show(value));
}

/** The entries of an array, Set or other iterable object; a typed array is none, it holds numbers. */
export function requireEntries(op: string, what: string, value: unknown): unknown[] {
  if (value === null || typeof value !== "object" || !(Symbol.iterator in value) || ArrayBuffer.isView(value))
    throw new ArgumentError(op, `${what} are not valid`, "an array", show(value));
  return [...(value as Iterable<unknown>)];
}

/** One of a list of names; the error names the nearest one. */
export function requireOneOf<T extends string>(
  op: string,
  what: string,
  value: unknown,
  names: readonly T[],
): T {
  if (typeof value === "string" && (names as readonly string[]).includes(value)) return value as T;
  const hint = typeof value === "string" ? nearest(value, names) : undefined;
  throw new ArgumentError(
    op,
    `unknown ${what}${hint ? ` (did you mean ${hint}?)` : ""}`,
    `one of ${names.join(", ")}`,
    show(value),
  );
}

/** An options object: absent is empty; unknown keys are refused with the nearest valid one. */
export function requireOptions(op: string, options: unknown, keys: readonly string[]): void {
  if (options === undefined) return;
  if (!isPlainObject(options))
    throw new ArgumentError(op, "options are not valid", `an object with ${keys.join(", ")}`, show(options));
  for (const key of Object.keys(options)) {
    if (keys.includes(key)) continue;
    const hint = nearest(key, keys);
    throw new ArgumentError(
      op,
      `unknown option ${key}${hint ? ` (did you mean ${hint}?)` : ""}`,
      `one of ${keys.join(", ")}`,
    );
  }
}

/** An object literal, of this realm or another: no array, no instance of a class. */
function isPlainObject(value: unknown): value is object {
  if (value === null || typeof value !== "object") return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The name with the fewest edits to `value`, if they are few enough to be a slip of the hand. */
export function nearest(value: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(value.length / 3)) + 1;
  for (const name of names) {
    const distance = edits(value.toLowerCase(), name.toLowerCase());
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  return best;
}

/** Levenshtein distance, row by row. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

function bounds(min: number, max: number): string {
  if (min === -Infinity && max === Infinity) return "";
  if (max === Infinity) return ` of at least ${min}`;
  return min === -Infinity ? ` of at most ${max}` : ` from ${min} to ${max}`;
}
