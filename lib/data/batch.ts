import { tensor } from "../ops/index.js";
import type { Device, Tensor } from "../tensor/tensor.js";
import { ArgumentError } from "../util/errors.js";
import { permutation, philoxUniform, STREAM } from "../util/philox.js";
import type { ImageDataset } from "./dataset.js";

/** Mean and standard deviation of all pixels, on the scale from 0 to 1. */
export interface Normalisation {
  mean: number;
  std: number;
}

export function measureNormalisation({ images }: ImageDataset): Normalisation {
  const histogram = new Float64Array(256);
  for (const value of images) histogram[value]++;
  let [sum, squares] = [0, 0];
  histogram.forEach((n, value) => {
    sum += (n * value) / 255;
    squares += n * (value / 255) ** 2;
  });
  const mean = sum / images.length;
  return {
    mean,
    std: Math.sqrt(Math.max(squares / images.length - mean * mean, 1e-12)),
  };
}

export interface Preparation extends Normalisation {
  /** Images are centred on a black square of this many pixels. */
  size: number;
}

/** Random changes, each keyed by (seed, epoch, sample): the same whatever the batches are. */
export interface Augmentation {
  seed: number;
  epoch: number;
  /** Mirror every second image, left to right. */
  flip: boolean;
  /** Move by up to this many pixels in each direction, as far as the square allows. */
  shift: number;
}

/** A batch in the host's memory. */
export interface BatchData {
  /** Numbers of the images, row by row. */
  pixels: Float32Array;
  /** [batch, size, size, channels] */
  shape: [number, number, number, number];
  labels: Int32Array;
}

export interface Batch {
  /** [batch, size, size, channels] */
  images: Tensor;
  /** Class numbers, int32 [batch]. */
  labels: Tensor;
}

/** The images of the given samples, prepared, on a device; with `augmentation`, randomly changed first. */
export function batchOf(
  data: ImageDataset,
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

/** {@link batchOf} as arrays. */
export function batchData(
  data: ImageDataset,
  samples: ArrayLike<number>,
  prepare: Preparation,
  augmentation?: Augmentation,
): BatchData {
  const { height, width, channels } = data;
  const { size, mean, std } = prepare;
  if (size < height || size < width)
    throw new ArgumentError(
      "batchOf",
      "images do not fit the square",
      `at most ${size} x ${size} pixels`,
      `${height} x ${width}`,
    );
  // One value per byte, computed once: the loop below only copies.
  const scaled = Float32Array.from({ length: 256 }, (_, value) => (value / 255 - mean) / std);
  const pixels = new Float32Array(samples.length * size * size * channels).fill(scaled[0]);
  const labels = new Int32Array(samples.length);
  for (let k = 0; k < samples.length; k++) {
    const sample = samples[k];
    labels[k] = data.labels[sample];
    const { mirrored, down, right } = augmentation
      ? changesOf(augmentation, sample)
      : { mirrored: false, down: 0, right: 0 };
    const top = clampTo(Math.floor((size - height) / 2) + down, size - height);
    const left = clampTo(Math.floor((size - width) / 2) + right, size - width);
    for (let row = 0; row < height; row++) {
      const from = (sample * height + row) * width * channels;
      const to = ((k * size + top + row) * size + left) * channels;
      for (let column = 0; column < width; column++) {
        const source = from + (mirrored ? width - 1 - column : column) * channels;
        for (let c = 0; c < channels; c++)
          pixels[to + column * channels + c] = scaled[data.images[source + c]];
      }
    }
  }
  return { pixels, shape: [samples.length, size, size, channels], labels };
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
