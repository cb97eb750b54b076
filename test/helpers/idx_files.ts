import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { philoxWord } from "../../lib/util/philox.js";

function idx(shape: number[], data: Uint8Array): Uint8Array {
  const header = new DataView(new ArrayBuffer(4 + 4 * shape.length));
  header.setUint8(2, 0x08);
  header.setUint8(3, shape.length);
  shape.forEach((dim, k) => header.setUint32(4 + 4 * k, dim));
  return Buffer.concat([new Uint8Array(header.buffer), data]);
}

export interface TinyData {
  train: number;
  test: number;
  size: number;
  classes: number;
}

/** Writes a small data set: noise, with a bright square whose place tells the class. */
export function writeTinyData(folder: string, { train, test, size, classes }: TinyData): string {
  mkdirSync(folder, { recursive: true });
  for (const [prefix, count, counter] of [
    ["train", train, 0],
    ["t10k", test, 1],
  ] as const) {
    const images = Uint8Array.from(
      { length: count * size * size },
      (_, k) => philoxWord(9, 9, counter, k) % 40,
    );
    const labels = Uint8Array.from({ length: count }, (_, k) => philoxWord(9, 10, counter, k) % classes);
    for (let k = 0; k < count; k++)
      for (let row = 0; row < 4; row++)
        images.fill(
          255,
          (k * size + row + (labels[k] % 2) * 5) * size + labels[k] * 2,
          (k * size + row + (labels[k] % 2) * 5) * size + labels[k] * 2 + 3,
        );
    writeFileSync(join(folder, `${prefix}-images-idx3-ubyte`), idx([count, size, size], images));
    writeFileSync(join(folder, `${prefix}-labels-idx1-ubyte`), idx([count], labels));
  }
  return `idx:${folder}`;
}
