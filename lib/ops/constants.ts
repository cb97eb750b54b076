/**
 * Constant tensors that ops need. On the CPU they are made anew for every call, which costs nothing; on a GPU a copy would make
 * the host wait, so they stay there, by the key of what they are a function of.
 */
import { type Device, fromTypedArray, type Tensor } from "../tensor/tensor.js";

export type Constants = (Int32Array | Float64Array)[];

const kept = new Map<string, Tensor[]>();

/** @param key tells one set of constants from all others  @returns vectors; those on a GPU must not be disposed */
export function constants(key: string, device: Device, make: () => Constants): Tensor[] {
  const found = kept.get(key);
  if (device !== "cpu" && found) return found;
  const made = make().map((data) =>
    fromTypedArray("constants", data, {
      shape: [data.length],
      dtype: data instanceof Int32Array ? "int32" : "float64",
      device,
    }),
  );
  if (device !== "cpu")
    kept.set(
      key,
      made.map((t) => t.keep()),
    );
  return made;
}

/** Tensors that are kept: they live as long as the process. */
export function keptConstants(): number {
  return [...kept.values()].reduce((sum, list) => sum + list.length, 0);
}
