import { IndexError } from "../../util/errors.js";
import type { Box } from "../resample.js";
import { Draws } from "./draws.js";
import type { AugmentSpec } from "./spec.js";

export interface BatchKey {
  seed: number;
  epoch: number;
  /** The number of the batch in its epoch. */
  batch: number;
}

/**
 * Mixes each image of a batch with its counterpart from the other end, in place, all by the same share: by weight (mixup, Zhang et
 * al. 2017) or by a pasted rectangle (cutmix, Yun et al. 2019). Both on: one of them is drawn per batch.
 *
 * @param pixels [batch, height, width, channels]
 * @param smoothing the share of each label that is spread over all classes
 * @returns the labels mixed alike: probabilities [batch, classes]
 * @throws {IndexError} for a label that is no class
 */
export function mixBatch(
  pixels: Float32Array,
  shape: readonly [number, number, number, number],
  labels: Int32Array,
  classes: number,
  { mixup, cutmix, mixProbability, mixSwitch }: AugmentSpec,
  { seed, epoch, batch }: BatchKey,
  smoothing: number,
): Float32Array {
  const draws = new Draws({ seed, epoch, sample: batch }, "mix");
  let share = 1;
  if ((mixup > 0 || cutmix > 0) && draws.chance(mixProbability)) {
    const paste = cutmix > 0 && (mixup === 0 || draws.chance(mixSwitch));
    share = draws.beta(paste ? cutmix : mixup);
    if (paste) {
      const box = cutBox(shape[1], shape[2], share, draws);
      swapBoxes(pixels, shape, box);
      share = 1 - (box.height * box.width) / (shape[1] * shape[2]);
    } else blend(pixels, shape[0], share);
  }
  return softTargets(labels, classes, share, smoothing);
}

/** A rectangle of the image's aspect ratio and 1 - share of its area, around a random pixel, cut off at the borders. */
export function cutBox(height: number, width: number, share: number, draws: Draws): Box {
  const side = Math.sqrt(1 - share);
  const h = Math.floor(height * side);
  const w = Math.floor(width * side);
  const [y, x] = [draws.integer(height), draws.integer(width)];
  const top = Math.max(0, y - (h >> 1));
  const left = Math.max(0, x - (w >> 1));
  return {
    top,
    left,
    height: Math.min(height, y + ((h + 1) >> 1)) - top,
    width: Math.min(width, x + ((w + 1) >> 1)) - left,
  };
}

/** Image k and image batch - 1 - k trade what is in the box. */
export function swapBoxes(
  pixels: Float32Array,
  [batch, height, width, channels]: readonly [number, number, number, number],
  box: Box,
): void {
  const row = box.width * channels;
  const kept = new Float32Array(row);
  for (let k = 0; k < batch >> 1; k++) {
    for (let y = box.top; y < box.top + box.height; y++) {
      const a = ((k * height + y) * width + box.left) * channels;
      const b = (((batch - 1 - k) * height + y) * width + box.left) * channels;
      kept.set(pixels.subarray(a, a + row));
      pixels.copyWithin(a, b, b + row);
      pixels.set(kept, b);
    }
  }
}

/** Image k becomes share * itself + (1 - share) * image batch - 1 - k. */
export function blend(pixels: Float32Array, batch: number, share: number): void {
  const length = pixels.length / batch;
  const own = Math.fround(share);
  const other = Math.fround(1 - share);
  for (let k = 0; k < batch >> 1; k++) {
    const a = k * length;
    const b = (batch - 1 - k) * length;
    for (let i = 0; i < length; i++) {
      const [first, second] = [pixels[a + i], pixels[b + i]];
      pixels[a + i] = Math.fround(first * own) + Math.fround(second * other);
      pixels[b + i] = Math.fround(second * own) + Math.fround(first * other);
    }
  }
}

/** share * the smoothed label + (1 - share) * that of the counterpart. */
export function softTargets(
  labels: Int32Array,
  classes: number,
  share: number,
  smoothing: number,
): Float32Array {
  const batch = labels.length;
  const targets = new Float32Array(batch * classes).fill(smoothing / classes);
  for (const [k, label] of labels.entries()) {
    if (label < 0 || label >= classes)
      throw new IndexError("mixBatch", "a label is no class", `0 <= label < ${classes}`, String(label));
    targets[k * classes + label] += share * (1 - smoothing);
    targets[(batch - 1 - k) * classes + label] += (1 - share) * (1 - smoothing);
  }
  return targets;
}
