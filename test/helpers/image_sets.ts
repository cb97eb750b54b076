import type { MemorySet } from "../../lib/data/index.js";
import { philoxWord } from "../../lib/util/philox.js";

/** A set in memory of the given bytes, one array per image. */
export function memorySet(
  images: readonly (readonly number[])[],
  labels: readonly number[],
  height: number,
  width: number,
  channels: number,
): MemorySet {
  const pixels = new Uint8Array(new SharedArrayBuffer(images.length * height * width * channels));
  pixels.set(images.flat());
  return {
    kind: "memory",
    pixels,
    labels: Int32Array.from(labels),
    count: images.length,
    height,
    width,
    channels,
  };
}

/** Noise, the same every time. */
export function noiseSet(count: number, classes: number, size: number, channels: number): MemorySet {
  const images = Array.from({ length: count }, (_, k) =>
    Array.from({ length: size * size * channels }, (_, at) => philoxWord(3, 7, k, at) % 256),
  );
  return memorySet(
    images,
    images.map((_, k) => k % classes),
    size,
    size,
    channels,
  );
}
