/**
 * Philox-4x32-10 (Salmon et al., SC 2011), the counter-based generator of the whole engine: a draw is a pure function of
 * (seed, stream, counter, element), so it can be repeated, skipped to, and computed on any device. This is the form for
 * decisions made in TypeScript (shuffles, flips); native/formulas/philox.h is the same for tensors.
 */
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** The high word of a 32 x 32 bit product, by halves of 16 bits. */
function multiplyHigh(a: number, b: number): number {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = (Math.imul(a1, b0) + (Math.imul(a0, b0) >>> 16)) | 0;
  const carry = (Math.imul(a0, b1) + (middle & 0xffff)) | 0;
  return (Math.imul(a1, b1) + (middle >>> 16) + (carry >>> 16)) | 0;
}

/** Ten rounds on a counter of four words with a key of two. */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low0 = Math.imul(MULTIPLIER_0, c0);
    c0 = high1 ^ c1 ^ k0;
    c1 = Math.imul(MULTIPLIER_1, c2);
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + WEYL_0) | 0;
    k1 = (k1 + WEYL_1) | 0;
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
}

/** What draws are for. Separate streams never repeat each other's numbers. */
export const STREAM = { default: 0, init: 1, shuffle: 2, augment: 3, scene: 8 } as const;

/** Words 4 * block to 4 * block + 3 of draw `counter`: whole numbers below 2^32. The layout is that of native/formulas/philox.h. */
export function philoxBlock(
  seed: number,
  stream: number,
  counter: number,
  block: number,
): [number, number, number, number] {
  return philox4x32(
    [
      block >>> 0,
      (Math.floor(block / 2 ** 32) | (stream << 16)) >>> 0,
      counter >>> 0,
      Math.floor(counter / 2 ** 32),
    ],
    [seed >>> 0, Math.floor(seed / 2 ** 32)],
  );
}

/** Word `element` of draw `counter`. */
export function philoxWord(seed: number, stream: number, counter: number, element: number): number {
  return philoxBlock(seed, stream, counter, Math.floor(element / 4))[element % 4];
}

/** Uniform in [0, 1) with 32 bits. */
export function philoxUniform(seed: number, stream: number, counter: number, element: number): number {
  return philoxWord(seed, stream, counter, element) / 2 ** 32;
}

/** The numbers 0 to n - 1 in random order: Fisher-Yates, keyed by (seed, stream, counter). */
export function permutation(n: number, seed: number, stream: number, counter: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, k) => k);
  for (let k = n - 1; k > 0; k--) {
    const j = Math.floor(philoxUniform(seed, stream, counter, k) * (k + 1));
    const swapped = order[k];
    order[k] = order[j];
    order[j] = swapped;
  }
  return order;
}
