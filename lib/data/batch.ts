import { tensor } from "../ops/index.js";
import type { Device, Tensor } from "../tensor/tensor.js";
import { ArgumentError } from "../util/errors.js";
import { permutation, STREAM } from "../util/philox.js";
import type { ImageSet } from "./image_set.js";
import { Pixels, pixelSource } from "./pixels.js";
import { fitImage, Normaliser, type Preparation } from "./preparation.js";

export interface Batch {
  /** [batch, size, size, channels] */
  images: Tensor;
  /** Class numbers, int32 [batch]. */
  labels: Tensor;
}

/**
 * The images of the given samples on a device, as in evaluation: for loops of one's own. A {@link Loader} also changes images at random,
 * reads files, and does it all in threads.
 * @throws {ArgumentError} for a set of image files
 */
export function batchOf(
  data: ImageSet,
  samples: ArrayLike<number>,
  prepare: Preparation,
  device: Device = "cpu",
): Batch {
  if (data.kind === "files")
    throw new ArgumentError("batchOf", "image files are loaded by a Loader", "another set");
  const source = new Pixels(pixelSource(data));
  const normaliser = new Normaliser(prepare);
  const shape = [samples.length, prepare.size, prepare.size, data.channels];
  const square = prepare.size ** 2 * data.channels;
  const pixels = new Float32Array(samples.length * square);
  for (let k = 0; k < samples.length; k++)
    normaliser.write(
      fitImage(source.image(samples[k]), prepare),
      pixels.subarray(k * square, (k + 1) * square),
    );
  const labels = Int32Array.from(samples, (sample) => data.labels[sample]);
  return { images: tensor(pixels, shape, { device }), labels: tensor(labels, { device }) };
}

/** The samples of an epoch in the order of training. */
export function epochOrder(count: number, seed: number, epoch: number): Uint32Array {
  return permutation(count, seed, STREAM.shuffle, epoch);
}

/** The numbers from `begin` to below `end`: samples in the order of the files. */
export function range(begin: number, end: number): number[] {
  return Array.from({ length: end - begin }, (_, k) => begin + k);
}
