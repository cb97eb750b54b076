/** Constant tensors that ops need, made once and kept by the key of what they are a function of. */
import { type Device, fromTypedArray, type Tensor } from "../tensor/tensor.js";

export type Constants = (Int32Array | Float64Array)[];

const kept: Record<Device, Map<string, Tensor[]>> = { cpu: new Map(), cuda: new Map() };

/** Sets kept on the CPU; the one unused for longest goes. On a GPU recorded graphs read them, so there all stay. */
const MOST = 256;

/** @param key tells one set of constants from all others  @returns vectors that must not be disposed */
export function constants(key: string, device: Device, make: () => Constants): Tensor[] {
  const sets = kept[device];
  let found = sets.get(key);
  if (found)
    sets.delete(key); // and back in, as the latest
  else {
    found = make().map((data) => {
      const dtype = data instanceof Int32Array ? "int32" : "float64";
      return fromTypedArray("constants", data, { shape: [data.length], dtype, device }).keep();
    });
    const [oldest] = sets;
    if (device === "cpu" && sets.size === MOST) {
      for (const t of oldest[1]) t.dispose();
      sets.delete(oldest[0]);
    }
  }
  sets.set(key, found);
  return found;
}

/** Tensors that are kept. */
export function keptConstants(): number {
  return [...kept.cpu.values(), ...kept.cuda.values()].flat().length;
}
