import { createHash } from "node:crypto";
import type { DataSource, ImageSet } from "../data/index.js";

/**
 * SHA-256 that tells one data set from another: of classes, labels and pixels, or, of a folder of image files, of their names instead
 * of their contents.
 */
export function hashData({ train, test, classes }: DataSource): string {
  const hash = createHash("sha256").update(JSON.stringify(classes));
  for (const set of [train, test]) hash.update(contentsOf(set)).update(bytesOf(set.labels));
  return hash.digest("hex");
}

function contentsOf(set: ImageSet): Uint8Array | string {
  if (set.kind !== "files") return set.pixels;
  // The folder may move: what counts is CLASS/FILE.
  return JSON.stringify(set.paths.map((path) => path.split("/").slice(-2)));
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
