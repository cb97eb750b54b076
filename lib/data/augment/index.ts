import type { Image } from "../image.js";
import { resizedCrop } from "./crop.js";
import { Draws, type SampleKey } from "./draws.js";
import { mirror, move } from "./geometry.js";
import type { AugmentSpec } from "./spec.js";

export type { SampleKey } from "./draws.js";
export { erase } from "./erase.js";
export { mixBatch } from "./mix.js";
export { type AugmentSpec, augmentSchema } from "./spec.js";

/**
 * The image after all random changes to bytes; the given one stays as it is.
 *
 * @param size the side of the square that a resized crop becomes
 */
export function augmentImage(image: Image, size: number, spec: AugmentSpec, key: SampleKey): Image {
  if (spec.resizedCrop) image = resizedCrop(image, size, spec, key);
  if (spec.shift > 0) image = shift(image, spec.shift, new Draws(key, "shift"));
  if (spec.flip > 0 && new Draws(key, "flip").chance(spec.flip)) image = mirror(image);
  return image;
}

/** A random crop of the image with a black border of `limit` pixels. */
function shift(image: Image, limit: number, draws: Draws): Image {
  const offset = (): number => draws.integer(2 * limit + 1) - limit;
  return move(image, offset(), offset());
}
