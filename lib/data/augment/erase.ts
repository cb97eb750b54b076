import { Draws, type SampleKey } from "./draws.js";
import type { AugmentSpec } from "./spec.js";

const TRIES = 10;
/** Shares of the area, and the range of aspect ratios (height / width). */
const AREA = [0.02, 1 / 3] as const;
const ASPECT = [0.3, 1 / 0.3] as const;

/**
 * Random erasing (Zhong et al. 2017) of one normalised image, in place: a rectangle of 2 to 33 % of the area becomes normal noise per
 * number (pixel) or per channel (rand), or the mean colour, which is 0 here (const).
 *
 * @param pixels row by row, channels last
 * @param shape [height, width, channels]
 */
export function erase(
  pixels: Float32Array,
  [height, width, channels]: readonly [number, number, number],
  { erase: probability, eraseMode }: AugmentSpec,
  key: SampleKey,
): void {
  const draws = new Draws(key, "erase");
  if (!draws.chance(probability)) return;
  const box = eraseBox(height, width, draws);
  if (!box) return;
  const colour = Array.from({ length: channels }, () => (eraseMode === "rand" ? draws.normal() : 0));
  for (let y = box.top; y < box.top + box.height; y++) {
    let to = (y * width + box.left) * channels;
    for (let x = 0; x < box.width; x++)
      for (let c = 0; c < channels; c++) pixels[to++] = eraseMode === "pixel" ? draws.normal() : colour[c];
  }
}

/** A rectangle smaller than the image on both sides, or nothing if ten were not. */
function eraseBox(height: number, width: number, draws: Draws) {
  for (let tried = 0; tried < TRIES; tried++) {
    const area = draws.between(...AREA) * height * width;
    const aspect = Math.exp(draws.between(Math.log(ASPECT[0]), Math.log(ASPECT[1])));
    const h = Math.round(Math.sqrt(area * aspect));
    const w = Math.round(Math.sqrt(area / aspect));
    if (h < height && w < width)
      return { top: draws.integer(height - h + 1), left: draws.integer(width - w + 1), height: h, width: w };
  }
  return undefined;
}
