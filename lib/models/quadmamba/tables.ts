import { tensor } from "../../ops/index.js";
import type { Device, Tensor } from "../../tensor/tensor.js";

/**
 * Constant index tensors of a module, made once for each size of the map and each device, and kept with the module. Held in a private map, so
 * that they are no part of its state.
 */
export class TableCache<T extends Record<string, Int32Array>> {
  readonly #make: (
    height: number,
    width: number,
  ) => { tables: T; shapes?: Partial<Record<keyof T, number[]>> };
  readonly #bySize = new Map<string, Record<keyof T, Tensor>>();

  constructor(
    make: (height: number, width: number) => { tables: T; shapes?: Partial<Record<keyof T, number[]>> },
  ) {
    this.#make = make;
  }

  get(height: number, width: number, device: Device): Record<keyof T, Tensor> {
    const key = `${height}x${width} ${device}`;
    let found = this.#bySize.get(key);
    if (!found) {
      const { tables, shapes } = this.#make(height, width);
      const made = Object.entries(tables).map(([name, data]) => [
        name,
        tensor(data, shapes?.[name] ?? [data.length], { device }).keep(),
      ]);
      found = Object.fromEntries(made) as Record<keyof T, Tensor>;
      this.#bySize.set(key, found);
    }
    return found;
  }

  dispose(): void {
    for (const tables of this.#bySize.values()) for (const t of Object.values<Tensor>(tables)) t.dispose();
    this.#bySize.clear();
  }
}
