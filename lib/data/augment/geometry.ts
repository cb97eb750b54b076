import type { Image } from "../image.js";

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
