/** Random draws of augmentation: their distributions, and that a draw depends on its key alone. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Draws } from "../../../lib/data/augment/draws.js";

const draws = suite("augmentation draws");

/** Mean and variance of one draw for each of many samples. */
function moments(draw: (draws: Draws) => number, count = 20000): { mean: number; variance: number } {
  let [sum, squares] = [0, 0];
  for (let sample = 0; sample < count; sample++) {
    const value = draw(new Draws({ seed: 5, epoch: 3, sample }, "crop"));
    sum += value;
    squares += value * value;
  }
  const mean = sum / count;
  return { mean, variance: squares / count - mean * mean };
}

const near = (got: number, expected: number, tolerance: number): void =>
  assert.ok(Math.abs(got - expected) < tolerance, `${got}, expected ${expected}`);

draws("uniform, normal and beta numbers over samples", () => {
  const uniform = moments((d) => d.uniform());
  near(uniform.mean, 1 / 2, 0.01);
  near(uniform.variance, 1 / 12, 0.003);
  for (const place of [0, 1]) {
    const normal = moments((d) => {
      if (place === 1) d.normal();
      return d.normal();
    });
    near(normal.mean, 0, 0.03);
    near(normal.variance, 1, 0.05);
  }
  // Beta(a, a) has variance 1 / (4 (2a + 1)).
  for (const shape of [0.01, 0.2, 0.8, 1, 4]) {
    const beta = moments((d) => d.beta(shape));
    near(beta.mean, 1 / 2, 0.015);
    near(beta.variance, 1 / (4 * (2 * shape + 1)), 0.004);
  }
});

draws("numbers of one sequence do not repeat those of another operation, sample, epoch or seed", () => {
  const seen = new Set<number>();
  for (const seed of [1, 2])
    for (const epoch of [0, 1])
      for (const sample of [0, 1, 2 ** 31])
        for (const operation of ["crop", "flip", "mix"] as const) {
          const sequence = new Draws({ seed, epoch, sample }, operation);
          for (let k = 0; k < 9; k++) seen.add(sequence.uniform());
        }
  assert.is(seen.size, 2 * 2 * 3 * 3 * 9);
});

draws("the order of samples does not matter", () => {
  const numbers = (sample: number): number[] => {
    const sequence = new Draws({ seed: 1, epoch: 2, sample }, "erase");
    return [sequence.uniform(), sequence.normal(), sequence.normal(), sequence.beta(0.8)];
  };
  const forwards = [0, 1, 2, 3].map(numbers);
  const backwards = [3, 2, 1, 0].map(numbers).reverse();
  assert.equal(forwards, backwards);
});

draws.run();
