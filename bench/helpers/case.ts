/** What benny times. */
import b from "benny";
import { summary } from "../../lib/bench/timing.js";
import { randn, scope, type Tensor } from "../../lib/index.js";
import type { Row } from "./row.js";

export interface Case {
  group: string;
  name: string;
  /** Its tensors are freed. */
  run(): unknown;
  /** Runs of `run` in one call, for what is shorter than the clock and the scope around it. */
  inner?: number;
  bytes?: number;
  flops?: number;
  elements?: number;
}

/** Cases made one after the other: what one needs is made when its turn comes, and freed when the next one's does. */
export type Cases = Generator<Case, void, undefined>;

const BENNY = { minSamples: 20, maxTime: 1 } as const;

export async function time({ group, name, run, inner = 1, ...cost }: Case): Promise<Row> {
  const call = () =>
    scope(() => {
      for (let k = 0; k < inner; k++) run();
    });
  const { results } = await quietly(() => b.suite(name, b.add(name, call, BENNY)));
  const samples = results[0].details.sampleResults;
  return { group, name, ...summary(samples.map((seconds) => (1000 * seconds) / inner)), ...cost };
}

/** Without the line that benny prints for every suite: rows are printed by whoever asked for them. */
async function quietly<R>(run: () => Promise<R>): Promise<R> {
  const { log } = console;
  console.log = () => {};
  try {
    return await run();
  } catch (event) {
    throw (event as { target?: { error?: Error } }).target?.error ?? event;
  } finally {
    console.log = log;
  }
}

/** Tensors of random numbers that outlive scopes, and their end. */
export class Inputs {
  readonly #made: Tensor[] = [];

  random(shape: number[], scale = 1): Tensor {
    return this.keep(() => randn(shape).mul(scale));
  }
  keep(make: () => Tensor): Tensor {
    const t = scope(make).keep();
    this.#made.push(t);
    return t;
  }
  dispose(): void {
    for (const t of this.#made) t.dispose();
  }
}
