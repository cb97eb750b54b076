import { philoxBlock, STREAM } from "../../util/philox.js";

/** What a training image is drawn for: the same key gives the same changes, whatever else is drawn, when and where. */
export interface SampleKey {
  seed: number;
  epoch: number;
  sample: number;
}

/** Each operation has a sequence of its own, so that switching one on or off leaves the others as they are. */
const OPERATIONS = { crop: 0, shift: 1, flip: 2, randAugment: 3, colorJitter: 4, erase: 5, mix: 6 } as const;

// The element of a Philox draw, 50 bits: epoch (18), operation (4), word (28).
const WORDS = 2 ** 28;
const EPOCH = 16 * WORDS;

/** A sequence of random numbers: a pure function of (seed, epoch, sample, operation) and the place in the sequence. */
export class Draws {
  readonly #seed: number;
  readonly #sample: number;
  #element: number;
  /** The four words around `#element`. */
  #words: readonly number[] = [];
  /** The second normal number of a pair. */
  #spare: number | undefined;

  constructor({ seed, epoch, sample }: SampleKey, operation: keyof typeof OPERATIONS) {
    this.#seed = seed;
    this.#sample = sample;
    this.#element = epoch * EPOCH + OPERATIONS[operation] * WORDS;
  }

  /** From 0 to below 1. */
  uniform(): number {
    const place = this.#element % 4;
    if (place === 0) this.#words = philoxBlock(this.#seed, STREAM.augment, this.#sample, this.#element / 4);
    this.#element++;
    return this.#words[place] / 2 ** 32;
  }

  between(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** True with a probability: never at 0, always at 1. */
  chance(probability: number): boolean {
    return this.uniform() < probability;
  }

  /** A whole number from 0 to below `count`. */
  integer(count: number): number {
    return Math.floor(this.uniform() * count);
  }

  /** Mean 0, variance 1, in pairs (Box and Muller 1958). */
  normal(): number {
    if (this.#spare !== undefined) {
      const value = this.#spare;
      this.#spare = undefined;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Beta(shape, shape): a share whose two sides are alike. */
  beta(shape: number): number {
    // X / (X + Y) of two gamma numbers; as logarithms, because gamma numbers of a small shape underflow.
    return 1 / (1 + Math.exp(this.#logGamma(shape) - this.#logGamma(shape)));
  }

  /** The logarithm of a gamma number (Marsaglia and Tsang 2000); a shape below 1 is taken from shape + 1 by its U^(1/shape). */
  #logGamma(shape: number): number {
    if (shape < 1) return this.#logGamma(shape + 1) + Math.log(1 - this.uniform()) / shape;
    const d = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.normal();
      const v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(1 - this.uniform()) < 0.5 * x * x + d * (1 - v + Math.log(v)))
        return Math.log(d * v);
    }
  }
}
