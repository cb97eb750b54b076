/**
 * The one way into a kernel. A call is a flat record of doubles (native/binding/execute.h) in one array that the addon shares:
 * it is written front to back, and run in one crossing, without an allocation.
 */
import { NativeError } from "../util/errors.js";
import { addon, addonInfo, translate } from "./addon.js";

const kernels = new Map(addonInfo.ops.map(({ name }, index) => [name, index]));
export const kernelNames: readonly string[] = addonInfo.ops.map((op) => op.name);

/** Numbers of an output: -1, dtype, device, rank, and at most six dimensions. */
const OUTPUT = 10;

let record = addon.record(256);
let at = 0;

/** Begins a call, and makes room for it. Its parts follow in this order: inputs, outputs, attributes, `runCall`. */
export function beginCall(kernel: string, inputs: number, outputs: number, attrs: number): void {
  const index = kernels.get(kernel);
  if (index === undefined)
    throw new NativeError(
      kernel,
      "the addon has no such kernel; it is older than the library: npm run build",
    );
  const needed = 3 + inputs + OUTPUT * outputs + attrs;
  if (needed > record.length) record = addon.record(2 * needed);
  record[0] = index;
  at = 1;
}

/** The next number of the call: a count, a handle (-1 for an optional input that is absent) or an attribute. */
export function putNumber(value: number): void {
  record[at++] = value;
}

/** An output to allocate. */
export function putOutput(dtype: number, device: number, shape: readonly number[]): void {
  record[at++] = -1;
  record[at++] = dtype;
  record[at++] = device;
  record[at++] = shape.length;
  for (let axis = 0; axis < shape.length; axis++) record[at++] = shape[axis];
}

/** Runs the call. @throws the typed error of the native code; nothing stays allocated then */
export function runCall(kernel: string): void {
  try {
    addon.run(at);
  } catch (error) {
    throw translate(kernel, error);
  }
}

/** The handle of the k-th output that the last call allocated. */
export function madeHandle(k: number): number {
  return record[k];
}
