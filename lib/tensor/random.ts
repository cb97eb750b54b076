import { requireInteger } from "../util/check.js";
import { STREAM } from "../util/philox.js";

/** The key of one draw. */
export interface Draw {
  seed: number;
  stream: number;
  counter: number;
}

/**
 * A source of draws: a seed, a stream, and a counter that each draw advances by one. Its whole state is these numbers, so
 * saving and restoring it repeats every later draw.
 */
export class Generator {
  seed: number;
  readonly stream: number;
  counter = 0;

  /** @param seed whole number from 0 to 2^53 - 1  @param stream whole number below 65536 */
  constructor(seed: number, stream: number = STREAM.default) {
    this.seed = requireInteger("Generator", "seed", seed, 0);
    this.stream = requireInteger("Generator", "stream", stream, 0, 65535);
  }

  next(): Draw {
    return { seed: this.seed, stream: this.stream, counter: this.counter++ };
  }
}

/** The generator of every op that draws without being given one. */
export const defaultGenerator = new Generator(0);
/** The generator of parameter initialisation: of its own stream, so that a model's weights do not depend on earlier draws of ops. */
export const initGenerator = new Generator(0, STREAM.init);

/** Restarts both generators from a seed: what is drawn afterwards repeats. */
export function manualSeed(seed: number): void {
  requireInteger("manualSeed", "seed", seed, 0);
  for (const generator of [defaultGenerator, initGenerator]) {
    generator.seed = seed;
    generator.counter = 0;
  }
}
