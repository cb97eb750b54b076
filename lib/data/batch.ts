import { tensor } from "../ops/index.js";
import type { Device, Tensor } from "../tensor/tensor.js";
import { ArgumentError } from "../util/errors.js";
import { permutation, philoxUniform, STREAM } from "../util/philox.js";
import type { Image } from "./image.js";
import type { ImageSet } from "./image_set.js";
import type { BatchData } from "./loader.js";
import { Pixels, pixelSource } from "./pixels.js";
import { fitImage, Normaliser, type Preparation } from "./preparation.js";

/** Random changes, each keyed by (seed, epoch, sample): the same whatever the batches are. */
export interface Augmentation {
  seed: number;
  epoch: number;
  /** Mirror every second image, left to right. */
  flip: boolean;
  /** Move by up to this many pixels in each direction, as far as the square allows. */
  shift: number;
}

export interface Batch {
  /** [batch, size, size, channels] */
  images: Tensor;
  /** Class numbers, int32 [batch]. */
  labels: Tensor;
}

/** The images of the given samples, prepared, on a device; with `augmentation`, randomly changed first. */
export function batchOf(
  data: ImageSet,
  samples: ArrayLike<number>,
  prepare: Preparation,
  augmentation?: Augmentation,
  device: Device = "cpu",
): Batch {
  return toDevice(batchData(data, samples, prepare, augmentation), device);
}

export function toDevice({ pixels, shape, labels }: BatchData, device: Device): Batch {
  return { images: tensor(pixels, shape, { device }), labels: tensor(labels, { device }) };
}

/** {@link batchOf} as arrays, of a set in memory or in a packed file. */
export function batchData(
  data: ImageSet,
  samples: ArrayLike<number>,
  prepare: Preparation,
  augmentation?: Augmentation,
): BatchData {
  if (data.kind === "files")
    throw new ArgumentError("batchOf", "image files are loaded by a Loader", "another set");
  const { channels } = data;
  const source = new Pixels(pixelSource(data));
  const { size } = prepare;
  const normaliser = new Normaliser(prepare);
  const pixels = new Float32Array(samples.length * size * size * channels);
  const labels = new Int32Array(samples.length);
  for (let k = 0; k < samples.length; k++) {
    const sample = samples[k];
    labels[k] = data.labels[sample];
    const image = source.image(sample);
    const changed = augmentation ? change(image, prepare, changesOf(augmentation, sample)) : image;
    const square = size * size * channels;
    normaliser.write(fitImage(changed, prepare), pixels.subarray(k * square, (k + 1) * square));
  }
  return { pixels, shape: [samples.length, size, size, channels], labels };
}

/** Mirrored, then moved on a black square as far as there is room. */
function change(
  { data, height, width, channels }: Image,
  { fit, size }: Preparation,
  { mirrored, down, right }: ReturnType<typeof changesOf>,
): Image {
  const side = fit === "pad" ? size : Math.max(height, width);
  const moved = new Uint8Array(side * side * channels);
  const top = clampTo(Math.floor((side - height) / 2) + down, side - height);
  const left = clampTo(Math.floor((side - width) / 2) + right, side - width);
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++)
      for (let c = 0; c < channels; c++)
        moved[((top + row) * side + left + column) * channels + c] =
          data[(row * width + (mirrored ? width - 1 - column : column)) * channels + c];
  return { data: moved, height: side, width: side, channels };
}

function clampTo(value: number, max: number): number {
  return Math.min(max, Math.max(0, value));
}

function changesOf({ seed, epoch, flip, shift }: Augmentation, sample: number) {
  const draw = (k: number): number => philoxUniform(seed, STREAM.augment, epoch, 4 * sample + k);
  const offset = (k: number): number => (shift > 0 ? Math.floor(draw(k) * (2 * shift + 1)) - shift : 0);
  return { mirrored: flip && draw(0) < 0.5, down: offset(1), right: offset(2) };
}

/** The samples of an epoch in the order of training. */
export function epochOrder(count: number, seed: number, epoch: number): Uint32Array {
  return permutation(count, seed, STREAM.shuffle, epoch);
}

/** The numbers from `begin` to below `end`: samples in the order of the files. */
export function range(begin: number, end: number): number[] {
  return Array.from({ length: end - begin }, (_, k) => begin + k);
}
