import { addon } from "../native/addon.js";
import { ArgumentError, show } from "../util/errors.js";
import type { Image } from "./image.js";

export type Filter = "nearest" | "bilinear" | "bicubic";

/** A part of an image, in pixels from its top left corner; edges may lie between pixels. */
export interface Box {
  top: number;
  left: number;
  height: number;
  width: number;
}

/**
 * The part `box` of an image as `height` x `width` pixels, with the bits of Pillow's `resize`: the filter widens when it shrinks
 * (no aliasing), reads beyond the box where the image goes on, and works in fixed point, rows before columns.
 *
 * @throws {ArgumentError} if the box is empty or leaves the image, or the size is not whole and positive
 */
export function resample(image: Image, box: Box, height: number, width: number, filter: Filter): Image {
  checkBox(image, box);
  for (const side of [height, width])
    if (!Number.isSafeInteger(side) || side < 1)
      throw new ArgumentError("resample", "no such size", "height, width >= 1", show([height, width]));
  // Pillow keeps a box in float32.
  const left = Math.fround(box.left);
  const top = Math.fround(box.top);
  const boxWidth = Math.fround(Math.fround(box.left + box.width) - left);
  const boxHeight = Math.fround(Math.fround(box.top + box.height) - top);
  if (boxWidth === width && boxHeight === height && Number.isInteger(left) && Number.isInteger(top))
    return crop(image, { top, left, height, width });
  if (filter === "nearest") return pick(image, top, left, boxHeight, boxWidth, height, width);

  const rows = tapsOf(FILTERS[filter], image.height, top, boxHeight, height);
  const whole = width === image.width && left === 0 && boxWidth === width;
  if (whole) return resampleRows(image, rows, 0);
  const columns = tapsOf(FILTERS[filter], image.width, left, boxWidth, width);
  const first = rows.starts[0];
  const last = rows.starts[height - 1] + rows.counts[height - 1];
  const narrowed = resampleColumns(image, columns, first, last);
  const unchanged = height === image.height && top === 0 && boxHeight === height;
  return unchanged ? narrowed : resampleRows(narrowed, rows, first);
}

/** A part of an image, cut out. The box is whole and inside. */
export function crop({ data, width: stride, channels }: Image, { top, left, height, width }: Box): Image {
  const row = width * channels;
  const out = new Uint8Array(height * row);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * stride + left) * channels;
    out.set(data.subarray(from, from + row), y * row);
  }
  return { data: out, height, width, channels };
}

function checkBox(image: Image, { top, left, height, width }: Box): void {
  const inside =
    top >= 0 &&
    left >= 0 &&
    Math.fround(top + height) <= image.height &&
    Math.fround(left + width) <= image.width;
  if (!inside || !(height > 0 && width > 0))
    throw new ArgumentError(
      "resample",
      "the box leaves the image or is empty",
      `a part of ${image.height} x ${image.width} pixels`,
      `top ${top}, left ${left}, ${height} x ${width}`,
    );
}

/** How far a filter reaches at scale 1, and its weight at a distance. */
interface Kernel {
  support: number;
  weight(distance: number): number;
}

const FILTERS: Record<Exclude<Filter, "nearest">, Kernel> = {
  bilinear: {
    support: 1,
    weight(x) {
      x = Math.abs(x);
      return x < 1 ? 1 - x : 0;
    },
  },
  // Keys' cubic convolution (1981), a = -1/2.
  bicubic: {
    support: 2,
    weight(x) {
      x = Math.abs(x);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
    },
  },
};

/** For each pixel of the output: the first pixel it reads, how many, and from `k * stride` on their weights. */
interface Taps {
  starts: Int32Array;
  counts: Int32Array;
  weights: Int32Array;
  stride: number;
}

// Weights in fixed point: 8 bits are the byte's, 2 are left for sums that go below 0 or above 255.
const PRECISION = 22;

function tapsOf({ support, weight }: Kernel, from: number, offset: number, length: number, to: number): Taps {
  const scale = length / to;
  const stretch = Math.max(scale, 1);
  const inverse = 1 / stretch;
  const reach = support * stretch;
  const stride = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(to);
  const counts = new Int32Array(to);
  const weights = new Int32Array(to * stride);
  const exact = new Float64Array(stride);
  for (let k = 0; k < to; k++) {
    const centre = offset + (k + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const count = Math.min(from, Math.trunc(centre + reach + 0.5)) - start;
    let sum = 0;
    for (let j = 0; j < count; j++) sum += exact[j] = weight((j + start - centre + 0.5) * inverse);
    for (let j = 0; j < count; j++) {
      const fixed = (exact[j] / sum) * (1 << PRECISION);
      weights[k * stride + j] = fixed < 0 ? fixed - 0.5 : fixed + 0.5;
    }
    starts[k] = start;
    counts[k] = count;
  }
  return { starts, counts, weights, stride };
}

/** Rows `first` to below `last`, each resampled to another width. */
function resampleColumns(image: Image, taps: Taps, first: number, last: number): Image {
  const { data, width, channels } = image;
  const { starts, counts, weights } = taps;
  const [height, row] = [last - first, width * channels];
  const out = new Uint8Array(height * starts.length * channels);
  const rows = data.subarray(first * row, last * row);
  addon.resampleColumns(rows, Float64Array.of(height, width, channels), starts, counts, weights, out);
  return { data: out, height, width: starts.length, channels };
}

/** All columns, each resampled to another height; `first` is the number of the first row that is there. */
function resampleRows(image: Image, taps: Taps, first: number): Image {
  const { data, height, width, channels } = image;
  const { counts, weights } = taps;
  const starts = first === 0 ? taps.starts : taps.starts.map((start) => start - first);
  const row = width * channels;
  const out = new Uint8Array(starts.length * row);
  addon.resampleRows(data, Float64Array.of(height, row), starts, counts, weights, out);
  return { data: out, height: starts.length, width, channels };
}

/** The pixel under the centre of each pixel of the output. Positions are added up, as Pillow does. */
function pick(
  { data, height: rows, width: columns, channels }: Image,
  top: number,
  left: number,
  boxHeight: number,
  boxWidth: number,
  height: number,
  width: number,
): Image {
  const out = new Uint8Array(height * width * channels);
  const at = new Int32Array(width);
  const [down, right] = [boxHeight / height, boxWidth / width];
  for (let x = 0, position = left + right * 0.5; x < width; x++, position += right)
    at[x] = Math.min(Math.trunc(position), columns - 1) * channels;
  let to = 0;
  for (let y = 0, position = top + down * 0.5; y < height; y++, position += down) {
    const from = Math.min(Math.trunc(position), rows - 1) * columns * channels;
    for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) out[to++] = data[from + at[x] + c];
  }
  return { data: out, height, width, channels };
}
