import type { Image } from "../data/index.js";

/** From dark violet over green to yellow; lighter all the way, so that it reads without colours too. */
const ANCHORS = [
  [38, 14, 84],
  [50, 84, 140],
  [28, 146, 138],
  [112, 202, 86],
  [250, 232, 48],
] as const;

/** The colour of a value from 0 to 1. */
export function colourOf(value: number): [number, number, number] {
  const at = Math.min(1, Math.max(0, value)) * (ANCHORS.length - 1);
  const below = Math.min(Math.floor(at), ANCHORS.length - 2);
  const share = at - below;
  const channel = (c: 0 | 1 | 2) =>
    Math.round((1 - share) * ANCHORS[below][c] + share * ANCHORS[below + 1][c]);
  return [channel(0), channel(1), channel(2)];
}

/** A map of values from 0 to 1, a pixel each. */
export function colourMap(values: ArrayLike<number>, height: number, width: number): Image {
  const data = new Uint8Array(3 * height * width);
  for (let k = 0; k < height * width; k++) data.set(colourOf(values[k]), 3 * k);
  return { data, height, width, channels: 3 };
}

/** Values moved and stretched to reach from 0 to 1; all 0.5 if they are equal. */
export function stretched(values: ArrayLike<number>): Float64Array {
  let [least, most] = [Infinity, -Infinity];
  for (let k = 0; k < values.length; k++) {
    least = Math.min(least, values[k]);
    most = Math.max(most, values[k]);
  }
  return Float64Array.from(values, (value) => (most > least ? (value - least) / (most - least) : 0.5));
}
