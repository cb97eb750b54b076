/**
 * The one way into a kernel. A call is a flat record of doubles (native/binding/execute.h), kept in one buffer that is
 * written anew for every call: no allocation, one crossing.
 */
import { NativeError } from "../util/errors.js";
import { addon, addonInfo, translate } from "./addon.js";

const kernels = new Map(addonInfo.ops.map((op, index) => [op.name, { index, ...op }]));
export const kernelNames: readonly string[] = addonInfo.ops.map((op) => op.name);

let record = new Float64Array(256);

/** An output to allocate, as the record wants it. */
export interface OutputSpec {
  dtype: number;
  device: number;
  shape: readonly number[];
}

/**
 * Runs a kernel.
 * @param inputs   handles; -1 for an optional input that is absent
 * @param outputs  what to allocate, or the handle of a live tensor to write into
 * @returns the handles of the outputs, in order
 * @throws the typed error of the native code; nothing stays allocated then
 */
export function runKernel(
  name: string,
  inputs: readonly number[],
  outputs: readonly (OutputSpec | number)[],
  attrs: readonly number[],
): number[] {
  const kernel = kernels.get(name);
  if (!kernel)
    throw new NativeError(name, "the addon has no such kernel; it is older than the library: npm run build");
  const needed = 3 + inputs.length + outputs.length * 10 + attrs.length;
  if (needed > record.length) record = new Float64Array(needed * 2);
  let at = 0;
  record[at++] = kernel.index;
  record[at++] = inputs.length;
  for (const handle of inputs) record[at++] = handle;
  record[at++] = outputs.length;
  const places: number[] = [];
  for (const output of outputs) {
    places.push(at);
    if (typeof output === "number") {
      record[at++] = output;
      continue;
    }
    record[at++] = -1;
    record[at++] = output.dtype;
    record[at++] = output.device;
    record[at++] = output.shape.length;
    for (const dim of output.shape) record[at++] = dim;
  }
  for (const value of attrs) record[at++] = value;
  try {
    addon.run(record, at);
  } catch (error) {
    throw translate(name, error);
  }
  for (let k = 0; k < places.length; k++) places[k] = record[places[k]];
  return places;
}
