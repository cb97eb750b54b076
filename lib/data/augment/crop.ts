import type { OpenImage } from "../decode.js";
import type { Image } from "../image.js";
import { type Box, resample } from "../resample.js";
import { Draws, type SampleKey } from "./draws.js";
import type { AugmentSpec } from "./spec.js";

const TRIES = 10;

/**
 * A random part of the image (Szegedy et al. 2014, "Inception" crops) as a square of `size` pixels. No more than the part is asked
 * for, so that no more of a file need be decoded.
 */
export function resizedCrop(image: OpenImage, size: number, spec: AugmentSpec, key: SampleKey): Image {
  const draws = new Draws(key, "crop");
  const box = cropBox(image.height, image.width, spec.resizedCrop!, draws);
  const filter = chooseFilter(spec.interpolation, draws);
  // Cut out first: the filter does not see what lies beyond the part.
  return resample(image.part(box), { ...box, top: 0, left: 0 }, size, size, filter);
}

/** The filter to use: itself, or one of the two by a draw. */
export function chooseFilter(
  interpolation: AugmentSpec["interpolation"],
  draws: Draws,
): "bilinear" | "bicubic" {
  if (interpolation !== "random") return interpolation;
  return draws.chance(0.5) ? "bilinear" : "bicubic";
}

/**
 * A part with a uniform share of the area and a log-uniform aspect ratio (width / height). If ten of them do not fit, the largest
 * part in the middle whose ratio is within the range.
 */
export function cropBox(
  height: number,
  width: number,
  { scale, ratio }: NonNullable<AugmentSpec["resizedCrop"]>,
  draws: Draws,
): Box {
  for (let tried = 0; tried < TRIES; tried++) {
    const area = draws.between(...scale) * height * width;
    const aspect = Math.exp(draws.between(Math.log(ratio[0]), Math.log(ratio[1])));
    const w = Math.max(1, Math.round(Math.sqrt(area * aspect)));
    const h = Math.max(1, Math.round(Math.sqrt(area / aspect)));
    if (w <= width && h <= height)
      return { top: draws.integer(height - h + 1), left: draws.integer(width - w + 1), height: h, width: w };
  }
  const h = Math.max(1, Math.min(height, Math.round(width / ratio[0])));
  const w = Math.max(1, Math.min(width, Math.round(height * ratio[1])));
  return { top: Math.floor((height - h) / 2), left: Math.floor((width - w) / 2), height: h, width: w };
}
