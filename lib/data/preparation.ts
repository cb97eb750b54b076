import { z } from "zod";
import { ArgumentError } from "../util/errors.js";
import type { Image } from "./image.js";
import type { ImageSet } from "./image_set.js";
import { resample } from "./resample.js";

/** Mean and standard deviation of all pixels of each channel, on the scale from 0 to 1. */
export interface Normalisation {
  mean: number[];
  std: number[];
}

/** How an image becomes the square of numbers that a model sees, in evaluation and wherever nothing random is done. */
export interface Preparation extends Normalisation {
  /** Side of the square, in pixels. */
  size: number;
  /** pad: centred on a black square; resize: to the square, whatever the shape; crop: the shorter side to size / cropShare, then the centre. */
  fit: "pad" | "resize" | "crop";
  cropShare: number;
  interpolation: "nearest" | "bilinear" | "bicubic";
}

const perChannel = (one: z.ZodNumber) =>
  z.preprocess((value) => (typeof value === "number" ? [value] : value), z.array(one).min(1)); // once a single number

/** Of files; what older ones lack is what was done then. */
export const preparationSchema = z.strictObject({
  size: z.number().int().min(1),
  fit: z.enum(["pad", "resize", "crop"]).default("pad"),
  cropShare: z.number().positive().max(1).default(1),
  interpolation: z.enum(["nearest", "bilinear", "bicubic"]).default("bilinear"),
  mean: perChannel(z.number()),
  std: perChannel(z.number().positive()),
});

/** The preparation for a set's images: what is not given is padding, bilinear, and what {@link measureNormalisation} finds. */
export function preparationFor(set: ImageSet, given: Partial<Preparation> & { size: number }): Preparation {
  return { fit: "pad", cropShare: 1, interpolation: "bilinear", ...measureNormalisation(set), ...given };
}

/** What published weights of ImageNet expect (torchvision's constants). */
export const IMAGENET: Normalisation = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** Measured from all pixels of a set in memory; of a packed one, that of its source; ImageNet's for image files, whatever they show. */
export function measureNormalisation(set: ImageSet): Normalisation {
  if (set.kind === "files") return { mean: [...IMAGENET.mean], std: [...IMAGENET.std] };
  if (set.kind === "packed") return structuredClone(set.normalisation);
  const { pixels, channels } = set;
  const histograms = Array.from({ length: channels }, () => new Float64Array(256));
  for (let k = 0; k < pixels.length; k += channels)
    for (let c = 0; c < channels; c++) histograms[c][pixels[k + c]]++;
  const moments = histograms.map((histogram) => {
    let [sum, squares] = [0, 0];
    histogram.forEach((n, value) => {
      sum += (n * value) / 255;
      squares += n * (value / 255) ** 2;
    });
    const count = pixels.length / channels;
    const mean = sum / count;
    return { mean, std: Math.sqrt(Math.max(squares / count - mean * mean, 1e-12)) };
  });
  return { mean: moments.map(({ mean }) => mean), std: moments.map(({ std }) => std) };
}

/** The size of a set's images; of files, which differ, that of the square. */
export function imageSize(
  set: ImageSet,
  { size }: Pick<Preparation, "size">,
): { height: number; width: number } {
  return set.kind === "files" ? { height: size, width: size } : { height: set.height, width: set.width };
}

/** The image on a square of `size` pixels. @throws {ArgumentError} if it is to be padded and is larger than that */
export function fitImage(image: Image, { size, fit, cropShare, interpolation }: Preparation): Image {
  const { height, width } = image;
  if (fit === "pad") {
    if (height > size || width > size)
      throw new ArgumentError(
        "prepare",
        "an image does not fit the square",
        `at most ${size} x ${size} pixels, or another fit than pad`,
        `${height} x ${width}`,
      );
    return centre(image, size, size);
  }
  if (fit === "resize") {
    if (height === size && width === size) return image;
    return resample(image, { top: 0, left: 0, height, width }, size, size, interpolation);
  }
  // Resizing and then cropping, as torchvision rounds it, is resampling the part that stays.
  const shorter = Math.floor(size / cropShare);
  const scale = shorter / Math.min(height, width);
  const longer = Math.floor((shorter * Math.max(height, width)) / Math.min(height, width));
  const [resizedHeight, resizedWidth] = height < width ? [shorter, longer] : [longer, shorter];
  if (scale === 1 && height === size && width === size) return image;
  const box = {
    top: (halfEven(resizedHeight - size) * height) / resizedHeight,
    left: (halfEven(resizedWidth - size) * width) / resizedWidth,
    height: (size * height) / resizedHeight,
    width: (size * width) / resizedWidth,
  };
  return resample(image, box, size, size, interpolation);
}

/** Half of a whole number, a tie to the even one, as Python's round() does. */
function halfEven(n: number): number {
  const half = Math.floor(n / 2);
  return n % 2 !== 0 && half % 2 !== 0 ? half + 1 : half;
}

/** An image as large as it fits, whole, on black. */
export function contain(image: Image, height: number, width: number): Image {
  const scale = Math.min(height / image.height, width / image.width);
  const side = (length: number) => Math.max(1, Math.round(length * scale));
  const whole = { top: 0, left: 0, height: image.height, width: image.width };
  return centre(resample(image, whole, side(image.height), side(image.width), "bilinear"), height, width);
}

/** An image in the middle of a black one, which is no smaller. */
function centre(image: Image, height: number, width: number): Image {
  const { data, channels } = image;
  if (image.height === height && image.width === width) return image;
  const framed = new Uint8Array(height * width * channels);
  const top = Math.floor((height - image.height) / 2);
  const left = Math.floor((width - image.width) / 2);
  const row = image.width * channels;
  for (let y = 0; y < image.height; y++)
    framed.set(data.subarray(y * row, (y + 1) * row), ((top + y) * width + left) * channels);
  return { data: framed, height, width, channels };
}

/** Writes the normalised numbers of images. Made once: it holds a number for each byte of each channel. */
export class Normaliser {
  readonly #numbers: Float32Array[];

  constructor({ mean, std }: Normalisation) {
    this.#numbers = mean.map((m, c) =>
      Float32Array.from({ length: 256 }, (_, value) => (value / 255 - m) / std[c]),
    );
  }

  write({ data }: Image, into: Float32Array): void {
    if (this.#numbers.length === 1) {
      const [grey] = this.#numbers;
      for (let k = 0; k < data.length; k++) into[k] = grey[data[k]];
      return;
    }
    const [red, green, blue] = this.#numbers;
    for (let k = 0; k < data.length; k += 3) {
      into[k] = red[data[k]];
      into[k + 1] = green[data[k + 1]];
      into[k + 2] = blue[data[k + 2]];
    }
  }
}
