/** Changes of colour, with the bits of Pillow's ImageOps and ImageEnhance. Images have 1 channel (mode L) or 3 (RGB). */
import type { Image } from "../image.js";

/** Each byte through a table: one for all channels, or one per channel, one after the other. */
function throughTable({ data, height, width, channels }: Image, table: Uint8Array): Image {
  const out = new Uint8Array(data.length);
  if (table.length === 256) for (let k = 0; k < data.length; k++) out[k] = table[data[k]];
  else
    for (let c = 0; c < channels; c++) {
      const own = table.subarray(c * 256, (c + 1) * 256);
      for (let k = c; k < data.length; k += channels) out[k] = own[data[k]];
    }
  return { data: out, height, width, channels };
}

function tableOf(value: (byte: number) => number): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => value(byte));
}

/** A table per channel, made from its histogram. */
function throughHistograms(image: Image, tableOf: (histogram: Uint32Array) => Uint8Array): Image {
  const { data, channels } = image;
  const tables = new Uint8Array(256 * channels);
  for (let c = 0; c < channels; c++) {
    const histogram = new Uint32Array(256);
    for (let k = c; k < data.length; k += channels) histogram[data[k]]++;
    tables.set(tableOf(histogram), c * 256);
  }
  return throughTable(image, tables);
}

export function invert(image: Image): Image {
  return throughTable(
    image,
    tableOf((byte) => 255 - byte),
  );
}

/** Inverts what is not below the threshold. */
export function solarize(image: Image, threshold: number): Image {
  return throughTable(
    image,
    tableOf((byte) => (byte < threshold ? byte : 255 - byte)),
  );
}

/** Adds to what is below 128. */
export function solarizeAdd(image: Image, add: number): Image {
  return throughTable(
    image,
    tableOf((byte) => (byte < 128 ? Math.min(255, byte + add) : byte)),
  );
}

/** Keeps the highest bits, 0 to 8 of them. */
export function posterize(image: Image, bits: number): Image {
  const mask = 256 - 2 ** (8 - bits);
  return throughTable(
    image,
    tableOf((byte) => byte & mask),
  );
}

/** Stretches each channel to the range from 0 to 255. */
export function autoContrast(image: Image): Image {
  return throughHistograms(image, (histogram) => {
    const low = histogram.findIndex((count) => count > 0);
    const high = histogram.findLastIndex((count) => count > 0);
    if (high <= low) return IDENTITY;
    const scale = 255 / (high - low);
    const offset = -low * scale;
    return tableOf((byte) => Math.max(0, Math.min(255, Math.trunc(byte * scale + offset))));
  });
}

const IDENTITY = tableOf((byte) => byte);

/** Makes the values of each channel about equally frequent. */
export function equalize(image: Image): Image {
  return throughHistograms(image, (histogram) => {
    const last = histogram.findLast((count) => count > 0) ?? 0;
    const step = Math.floor((image.height * image.width - last) / 255);
    if (step === 0) return IDENTITY;
    let below = Math.floor(step / 2);
    return tableOf((byte) => {
      const value = Math.min(255, Math.floor(below / step));
      below += histogram[byte];
      return value;
    });
  });
}

/** From black (0) over the image (1) to brighter. */
export function brightness(image: Image, factor: number): Image {
  const blend = blender(factor);
  return throughTable(
    image,
    tableOf((byte) => blend(0, byte)),
  );
}

/** From the mean grey (0) over the image (1) to more contrast. */
export function contrast(image: Image, factor: number): Image {
  let sum = 0;
  const grey = greyOf(image);
  for (let k = 0; k < grey.length; k++) sum += grey[k];
  const mean = Math.trunc(sum / grey.length + 0.5);
  const blend = blender(factor);
  return throughTable(
    image,
    tableOf((byte) => blend(mean, byte)),
  );
}

/** From grey (0) over the image (1) to more saturated. An image of one channel stays as it is. */
export function color(image: Image, factor: number): Image {
  const { data, height, width, channels } = image;
  if (channels === 1) return image;
  const out = new Uint8Array(data.length);
  const grey = greyOf(image);
  const blend = blender(factor);
  for (let k = 0, at = 0; k < grey.length; k++, at += 3) {
    out[at] = blend(grey[k], data[at]);
    out[at + 1] = blend(grey[k], data[at + 1]);
    out[at + 2] = blend(grey[k], data[at + 2]);
  }
  return { data: out, height, width, channels };
}

/** From a blurred image (0) over the image (1) to a sharper one. Pixels at the border stay. */
export function sharpness({ data, height, width, channels }: Image, factor: number): Image {
  const out = data.slice();
  const row = width * channels;
  const blend = blender(factor);
  for (let y = 1; y < height - 1; y++)
    for (let at = y * row + channels; at < (y + 1) * row - channels; at++) {
      const [above, below] = [at - row, at + row];
      const sum =
        data[above - channels] +
        data[above] +
        data[above + channels] +
        data[at - channels] +
        5 * data[at] +
        data[at + channels] +
        data[below - channels] +
        data[below] +
        data[below + channels];
      out[at] = blend(THIRTEENTH[sum], data[at]);
    }
  return { data: out, height, width, channels };
}

/** sum / 13, rounded: the weights of the blur. */
const THIRTEENTH = Uint8Array.from({ length: 13 * 255 + 1 }, (_, sum) => Math.floor(sum / 13 + 0.5));

/** Luma of ITU-R BT.601 in fixed point, one byte per pixel. */
export function greyOf({ data, channels }: Pick<Image, "data" | "channels">): Uint8Array {
  if (channels === 1) return data;
  const grey = new Uint8Array(data.length / 3);
  for (let k = 0, at = 0; k < grey.length; k++, at += 3)
    grey[k] = (19595 * data[at] + 38470 * data[at + 1] + 7471 * data[at + 2] + 0x8000) >> 16;
  return grey;
}

/** from + factor * (to - from) as a byte, in the float32 steps of Pillow's `blend`. */
function blender(factor: number): (from: number, to: number) => number {
  const products = Float32Array.from({ length: 511 }, (_, k) => Math.fround(factor) * (k - 255));
  return (from, to) => {
    const value = Math.fround(from + products[to - from + 255]);
    return value <= 0 ? 0 : value >= 255 ? 255 : Math.trunc(value);
  };
}
