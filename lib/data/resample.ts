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
const HALF = 1 << (PRECISION - 1);

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

// The loops below are the hottest of the loader. Sums start from a half, so that the shift rounds, and an array that clamps takes what
// is below 0 or above 255.

/** Rows `first` to below `last`, each resampled to another width. */
function resampleColumns(image: Image, taps: Taps, first: number, last: number): Image {
  const { data, width: from, channels } = image;
  const { starts, counts, weights, stride } = taps;
  const width = starts.length;
  const out = new Uint8ClampedArray((last - first) * width * channels);
  for (let begin = first; begin < last; begin += ROWS_AT_ONCE) {
    const end = Math.min(last, begin + ROWS_AT_ONCE);
    for (let x = 0; x < width; x++) {
      const k0 = x * stride;
      const k1 = k0 + counts[x];
      for (let y = begin; y < end; y++) {
        const source = (y * from + starts[x]) * channels;
        const to = ((y - first) * width + x) * channels;
        if (channels === 3) {
          let [r, g, b] = [HALF, HALF, HALF];
          for (let k = k0, at = source; k < k1; k++, at += 3) {
            const weight = weights[k];
            r = (r + Math.imul(data[at], weight)) | 0;
            g = (g + Math.imul(data[at + 1], weight)) | 0;
            b = (b + Math.imul(data[at + 2], weight)) | 0;
          }
          out[to] = r >> PRECISION;
          out[to + 1] = g >> PRECISION;
          out[to + 2] = b >> PRECISION;
        } else
          for (let c = 0; c < channels; c++) {
            let sum = HALF;
            for (let k = k0, at = source + c; k < k1; k++, at += channels)
              sum = (sum + Math.imul(data[at], weights[k])) | 0;
            out[to + c] = sum >> PRECISION;
          }
      }
    }
  }
  return { data: new Uint8Array(out.buffer), height: last - first, width, channels };
}

/** Few enough to stay in the cache, and enough for one count of taps to last. */
const ROWS_AT_ONCE = 16;

/** All columns, each resampled to another height; `first` is the number of the first row that is there. */
function resampleRows(image: Image, taps: Taps, first: number): Image {
  const { data, width, channels } = image;
  const { starts, counts, weights, stride } = taps;
  const height = starts.length;
  const row = width * channels;
  const out = new Uint8ClampedArray(height * row);
  for (let y = 0; y < height; y++) {
    const k0 = y * stride;
    const k1 = k0 + counts[y];
    for (let begin = 0; begin < row; begin += 4) {
      // Four at a time; the last four overlap the ones before. A row of less than four spills into the next, which is written later.
      const x = Math.max(0, Math.min(begin, row - 4));
      let [s0, s1, s2, s3] = [HALF, HALF, HALF, HALF];
      for (let k = k0, at = (starts[y] - first) * row + x; k < k1; k++, at += row) {
        const weight = weights[k];
        s0 = (s0 + Math.imul(data[at], weight)) | 0;
        s1 = (s1 + Math.imul(data[at + 1], weight)) | 0;
        s2 = (s2 + Math.imul(data[at + 2], weight)) | 0;
        s3 = (s3 + Math.imul(data[at + 3], weight)) | 0;
      }
      const to = y * row + x;
      out[to] = s0 >> PRECISION;
      out[to + 1] = s1 >> PRECISION;
      out[to + 2] = s2 >> PRECISION;
      out[to + 3] = s3 >> PRECISION;
    }
  }
  return { data: new Uint8Array(out.buffer), height, width, channels };
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
