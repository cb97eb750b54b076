/** What the benches of the scan on the CPU and on the GPU share. */
import { type Device, type Tensor, tensor } from "../../lib/index.js";

export interface ScanShape {
  batch: number;
  groups: number;
  /** Channels of a group. */
  channels: number;
  length: number;
  states: number;
}

/** Forward and reversed reading by turns, the same for all samples. */
export function readingOrders({ batch, groups, length }: ScanShape, device: Device): Tensor {
  const line = Int32Array.from({ length }, (_, k) => k);
  const flat = new Int32Array(batch * groups * length);
  for (let k = 0; k < batch * groups; k++) flat.set(k % 2 === 0 ? line : line.toReversed(), k * length);
  return tensor(flat, [batch, groups, length], { device });
}
