import type { Image } from "../image.js";
import * as colour from "./colour.js";
import { chooseFilter } from "./crop.js";
import type { Draws } from "./draws.js";
import { type Reading, rotate, shearX, shearY, translateX, translateY } from "./geometry.js";
import type { RandAugmentPolicy } from "./rand_augment_policy.js";
import type { AugmentSpec } from "./spec.js";

/** One operation; `level` is magnitude / 10, `sign` is 1 or -1 where there are two ways to go. */
export type Operation = (image: Image, level: number, sign: number, reading: Reading) => Image;

// Operations are drawn by their places in these lists.
const NEUTRAL = {
  AutoContrast: (image) => colour.autoContrast(image),
  Equalize: (image) => colour.equalize(image),
  Invert: (image) => colour.invert(image),
  Rotate: (image, level, sign, reading) => rotate(image, sign * (level * 30), reading),
  SolarizeAdd: (image, level) => colour.solarizeAdd(image, Math.min(128, Math.trunc(level * 110))),
  ShearX: (image, level, sign, reading) => shearX(image, sign * (level * 0.3), reading),
  ShearY: (image, level, sign, reading) => shearY(image, sign * (level * 0.3), reading),
  TranslateXRel: (image, level, sign, reading) => translateX(image, sign * (level * 0.45), reading),
  TranslateYRel: (image, level, sign, reading) => translateY(image, sign * (level * 0.45), reading),
} satisfies Record<string, Operation>;

/** From 0.1 to 1.9: level 5 is the image itself. */
const enhance =
  (change: (image: Image, factor: number) => Image): Operation =>
  (image, level) =>
    change(image, level * 1.8 + 0.1);

/** Away from 1 in either direction, not below 0.1. */
const enhanceMore =
  (change: (image: Image, factor: number) => Image): Operation =>
  (image, level, sign) =>
    change(image, Math.max(0.1, 1 + sign * (level * 0.9)));

const bits = (level: number): number => Math.trunc(level * 4);
const threshold = (level: number): number => Math.min(256, Math.trunc(level * 256));

/** The operations of Cubuk et al. 2019 as timm scales them. */
export const PLAIN: Record<string, Operation> = {
  ...NEUTRAL,
  Posterize: (image, level) => colour.posterize(image, bits(level)),
  Solarize: (image, level) => colour.solarize(image, threshold(level)),
  Color: enhance(colour.color),
  Contrast: enhance(colour.contrast),
  Brightness: enhance(colour.brightness),
  Sharpness: enhance(colour.sharpness),
};

/** The same with every change growing with the magnitude. */
export const INCREASING: Record<string, Operation> = {
  ...NEUTRAL,
  PosterizeIncreasing: (image, level) => colour.posterize(image, 4 - bits(level)),
  SolarizeIncreasing: (image, level) => colour.solarize(image, 256 - threshold(level)),
  ColorIncreasing: enhanceMore(colour.color),
  ContrastIncreasing: enhanceMore(colour.contrast),
  BrightnessIncreasing: enhanceMore(colour.brightness),
  SharpnessIncreasing: enhanceMore(colour.sharpness),
};

/** Some operations at random, one after the other. */
export function randAugment(
  image: Image,
  policy: RandAugmentPolicy,
  interpolation: AugmentSpec["interpolation"],
  fill: readonly number[],
  draws: Draws,
): Image {
  const operations = Object.values(policy.increasing ? INCREASING : PLAIN);
  for (let layer = 0; layer < policy.layers; layer++) {
    const operation = operations[draws.integer(operations.length)];
    if (!draws.chance(policy.probability)) continue;
    const level = drawMagnitude(policy, draws) / 10;
    const sign = draws.chance(0.5) ? -1 : 1;
    image = operation(image, level, sign, { filter: chooseFilter(interpolation, draws), fill });
  }
  return image;
}

export function drawMagnitude({ magnitude, deviation, limit }: RandAugmentPolicy, draws: Draws): number {
  if (deviation === Infinity) magnitude = draws.between(0, magnitude);
  else if (deviation > 0) magnitude += deviation * draws.normal();
  return Math.max(0, Math.min(limit, magnitude));
}
