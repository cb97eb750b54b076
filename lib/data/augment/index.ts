import type { OpenImage } from "../decode.js";
import { ArgumentError } from "../../util/errors.js";
import type { Image } from "../image.js";
import { colorJitter } from "./color_jitter.js";
import { resizedCrop } from "./crop.js";
import { Draws, type SampleKey } from "./draws.js";
import { mirror, move } from "./geometry.js";
import { randAugment } from "./rand_augment.js";
import { parseRandAugment, type RandAugmentPolicy } from "./rand_augment_policy.js";
import type { AugmentSpec } from "./spec.js";

export type { SampleKey } from "./draws.js";
export { erase } from "./erase.js";
export { mixBatch } from "./mix.js";
export { type AugmentSpec, augmentSchema } from "./spec.js";

/**
 * The image after all random changes to bytes; the given one stays as it is.
 *
 * @param size the side of the square that a resized crop becomes
 * @param fill the byte per channel of what RandAugment moves in from outside: the mean colour of the data in timm's recipe
 * @throws {ArgumentError} if colours are to change and there are neither 1 nor 3 channels
 */
export function augmentImage(
  source: OpenImage,
  size: number,
  spec: AugmentSpec,
  key: SampleKey,
  fill?: readonly number[],
): Image {
  let image = spec.resizedCrop ? resizedCrop(source, size, spec, key) : source.part();
  if (spec.shift > 0) image = shift(image, spec.shift, new Draws(key, "shift"));
  if (spec.flip > 0 && new Draws(key, "flip").chance(spec.flip)) image = mirror(image);
  if (spec.randAugment !== undefined) {
    requireColours(image);
    const draws = new Draws(key, "randAugment");
    const colour = fill ?? new Array<number>(image.channels).fill(128);
    image = randAugment(image, policyOf(spec.randAugment), spec.interpolation, colour, draws);
  } else if (spec.colorJitter > 0) {
    requireColours(image);
    image = colorJitter(image, spec.colorJitter, new Draws(key, "colorJitter"));
  }
  return image;
}

/** A random crop of the image with a black border of `limit` pixels. */
function shift(image: Image, limit: number, draws: Draws): Image {
  const offset = (): number => draws.integer(2 * limit + 1) - limit;
  return move(image, offset(), offset());
}

function requireColours({ channels }: Image): void {
  if (channels !== 1 && channels !== 3)
    throw new ArgumentError("augmentImage", "no colours to change", "1 or 3 channels", String(channels));
}

const policies = new Map<string, RandAugmentPolicy>();

/** Strings are read once, not once per image. */
function policyOf(text: string): RandAugmentPolicy {
  let policy = policies.get(text);
  if (!policy) policies.set(text, (policy = parseRandAugment(text)));
  return policy;
}
