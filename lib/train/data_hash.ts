import { createHash } from "node:crypto";
import type { DataSource, ImageSet } from "../data/index.js";

/**
 * SHA-256 that tells one data set from another: of classes, labels and pixels, or, instead of these, of the hash in a packed file's
 * header, or of the names of image files.
 */
export function hashData({ train, test, classes }: DataSource): string {
  const hash = createHash("sha256").update(JSON.stringify(classes));
  for (const set of [train, test]) hash.update(contentsOf(set)).update(bytesOf(set.labels));
  return hash.digest("hex");
}

function contentsOf(set: ImageSet): Uint8Array | string {
  if (set.kind === "memory") return set.pixels;
  if (set.kind === "packed") return set.sha256;
  // The folder may move: what counts is CLASS/FILE.
  return JSON.stringify(set.paths.map((path) => path.split("/").slice(-2)));
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
