/** Labelled images as plain data, which other threads can be sent: a description of where the pixels are. */
export type ImageSet = MemorySet | PackedSet | FileSet;

interface Labelled {
  count: number;
  /** Class number of each image. */
  labels: Int32Array;
  /** 1: grey, 3: red, green and blue. */
  channels: number;
}

/** Images of one size in memory. */
export interface MemorySet extends Labelled {
  kind: "memory";
  height: number;
  width: number;
  /** [count, height, width, channels], on a SharedArrayBuffer, so that threads share it. */
  pixels: Uint8Array;
}

/** Images of one size in a packed file, which every thread maps into its memory. */
export interface PackedSet extends Labelled {
  kind: "packed";
  path: string;
  height: number;
  width: number;
  /** Of the first image in the file, in bytes; the others follow without gaps. */
  offset: number;
  /** Of all pixels, as the file's header says. */
  sha256: string;
  /** Of the set that was packed. */
  normalisation: { mean: number[]; std: number[] };
}

/** Image files of any size, decoded when they are needed. */
export interface FileSet extends Labelled {
  kind: "files";
  paths: readonly string[];
}

/** Labelled images for training and test, of the same classes and channels. */
export interface DataSource {
  name: string;
  train: ImageSet;
  test: ImageSet;
  /** One name per class. */
  classes: readonly string[];
}

/** Bytes that threads share. */
export function sharedBytes(length: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(length));
}

/** A copy that threads share. */
export function shareBytes(bytes: Uint8Array): Uint8Array {
  const shared = sharedBytes(bytes.length);
  shared.set(bytes);
  return shared;
}
