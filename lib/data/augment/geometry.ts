import type { Image } from "../image.js";

/** The pixel whose centre is (x, y) is read at (a x + b y + c, d x + e y + f). */
export type Affine = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

/** How pixels between pixels are made, and the colour of what lies outside, per channel. */
export interface Reading {
  filter: "bilinear" | "bicubic";
  fill: readonly number[];
}

/** The image under an affine map, of the same size, with the bits of Pillow's `transform`. */
export function affine(image: Image, [a, b, c, d, e, f]: Affine, { filter, fill }: Reading): Image {
  const { data, height, width, channels } = image;
  const out = new Uint8Array(data.length);
  const read = filter === "bicubic" ? readBicubic : readBilinear;
  let to = 0;
  for (let row = 0; row < height; row++) {
    const y = row + 0.5;
    for (let column = 0; column < width; column++, to += channels) {
      const x = column + 0.5;
      const u = a * x + b * y + c;
      const v = d * x + e * y + f;
      if (u >= 0 && u < width && v >= 0 && v < height) read(image, u - 0.5, v - 0.5, out, to);
      else for (let k = 0; k < channels; k++) out[to + k] = fill[k];
    }
  }
  return { data: out, height, width, channels };
}

function clamp(value: number, below: number): number {
  return value < 0 ? 0 : value < below ? value : below - 1;
}

function readBilinear(
  { data, height, width, channels }: Image,
  x: number,
  y: number,
  out: Uint8Array,
  to: number,
): void {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const dx = x - left;
  const dy = y - top;
  const x0 = clamp(left, width) * channels;
  const x1 = clamp(left + 1, width) * channels;
  const y0 = clamp(top, height) * width * channels;
  const y1 = clamp(top + 1, height) * width * channels;
  for (let k = 0; k < channels; k++) {
    const upper = linear(data[y0 + x0 + k], data[y0 + x1 + k], dx);
    const lower = linear(data[y1 + x0 + k], data[y1 + x1 + k], dx);
    out[to + k] = linear(upper, lower, dy);
  }
}

function linear(a: number, b: number, t: number): number {
  return a + (b - a) * t;
}

function readBicubic(
  { data, height, width, channels }: Image,
  x: number,
  y: number,
  out: Uint8Array,
  to: number,
): void {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const dx = x - left;
  const dy = y - top;
  const x0 = clamp(left - 1, width) * channels;
  const x1 = clamp(left, width) * channels;
  const x2 = clamp(left + 1, width) * channels;
  const x3 = clamp(left + 2, width) * channels;
  const stride = width * channels;
  const y0 = clamp(top - 1, height) * stride;
  const y1 = clamp(top, height) * stride;
  const y2 = clamp(top + 1, height) * stride;
  const y3 = clamp(top + 2, height) * stride;
  for (let k = 0; k < channels; k++) {
    // A shear or a move along one axis lands on whole pixels of the other: one row, or one column, is the result to the bit.
    let value: number;
    if (dy === 0)
      value = cubic(data[y1 + x0 + k], data[y1 + x1 + k], data[y1 + x2 + k], data[y1 + x3 + k], dx);
    else if (dx === 0)
      value = cubic(data[y0 + x1 + k], data[y1 + x1 + k], data[y2 + x1 + k], data[y3 + x1 + k], dy);
    else
      value = cubic(
        cubic(data[y0 + x0 + k], data[y0 + x1 + k], data[y0 + x2 + k], data[y0 + x3 + k], dx),
        cubic(data[y1 + x0 + k], data[y1 + x1 + k], data[y1 + x2 + k], data[y1 + x3 + k], dx),
        cubic(data[y2 + x0 + k], data[y2 + x1 + k], data[y2 + x2 + k], data[y2 + x3 + k], dx),
        cubic(data[y3 + x0 + k], data[y3 + x1 + k], data[y3 + x2 + k], data[y3 + x3 + k], dx),
        dy,
      );
    out[to + k] = value <= 0 ? 0 : value >= 255 ? 255 : value;
  }
}

/** Cubic convolution (Keys 1981) with a = -1: Pillow's transforms use another one than its resampling. */
function cubic(before: number, a: number, b: number, after: number, t: number): number {
  const p2 = b - before;
  const p3 = 2 * (before - a) + b - after;
  const p4 = a - before - b + after;
  return a + t * (p2 + t * (p3 + t * p4));
}

/** Turned counter-clockwise around its middle. */
export function rotate(image: Image, degrees: number, reading: Reading): Image {
  // The bits of Pillow: the angle within a turn, cosine and sine rounded to 15 digits.
  const angle = (-(((degrees % 360) + 360) % 360) * Math.PI) / 180;
  const cos = Number(Math.cos(angle).toFixed(15));
  const sin = Number(Math.sin(angle).toFixed(15));
  const [x, y] = [image.width / 2, image.height / 2];
  return affine(image, [cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y], reading);
}

export function shearX(image: Image, factor: number, reading: Reading): Image {
  return affine(image, [1, factor, 0, 0, 1, 0], reading);
}

export function shearY(image: Image, factor: number, reading: Reading): Image {
  return affine(image, [1, 0, 0, factor, 1, 0], reading);
}

/** Moved to the left by a share of its width. */
export function translateX(image: Image, share: number, reading: Reading): Image {
  return affine(image, [1, 0, share * image.width, 0, 1, 0], reading);
}

/** Moved up by a share of its height. */
export function translateY(image: Image, share: number, reading: Reading): Image {
  return affine(image, [1, 0, 0, 0, 1, share * image.height], reading);
}

/** Moved by whole pixels, over black. */
export function move({ data, height, width, channels }: Image, down: number, right: number): Image {
  const out = new Uint8Array(data.length);
  const row = width * channels;
  const columns = (width - Math.abs(right)) * channels;
  if (columns <= 0) return { data: out, height, width, channels };
  for (let y = Math.max(0, -down); y < Math.min(height, height - down); y++) {
    const from = y * row + Math.max(0, -right) * channels;
    out.set(data.subarray(from, from + columns), (y + down) * row + Math.max(0, right) * channels);
  }
  return { data: out, height, width, channels };
}

/** Mirrored, left to right. */
export function mirror({ data, height, width, channels }: Image): Image {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    let to = y * width * channels;
    for (let x = width - 1; x >= 0; x--) {
      const from = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) out[to++] = data[from + c];
    }
  }
  return { data: out, height, width, channels };
}
