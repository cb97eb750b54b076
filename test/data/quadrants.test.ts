/** The data set `quadrants`: every digit is where it is said to be, clutter tells nothing, and the set is always the same. */
import { createHash } from "node:crypto";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DataSource, type MemorySet, loadDataset } from "../../lib/data/index.js";
import { quadrantScenes } from "../../lib/data/quadrants.js";

const quadrants = suite("quadrants");

const mnist = await loadDataset("mnist");
const first = (set: MemorySet, count: number): MemorySet => ({ ...set, count });
const few: DataSource = {
  ...mnist,
  train: first(mnist.train as MemorySet, 600),
  test: first(mnist.test as MemorySet, 300),
};
const { train, test, classes } = quadrantScenes(few);

quadrants("as many scenes as digits, up to 20,000 and 5,000, with the digits' classes", () => {
  assert.equal([train.count, train.height, train.width, train.channels], [600, 64, 64, 1]);
  assert.equal([test.count, test.pixels.length, test.quadrants.length], [300, 300 * 64 * 64, 300]);
  assert.equal(classes, mnist.classes);
});

quadrants("the digit of the label lies whole in its quadrant, and in its quadrant alone", () => {
  for (const [scenes, digits] of [
    [train, few.train],
    [test, few.test],
  ] as const) {
    const used = new Set<number>();
    for (let k = 0; k < 40; k++) {
      const inside: number[] = [];
      // a digit is there if every pixel of the canvas is at least as bright as its own
      const holds = (digit: number, top: number, left: number): boolean => {
        for (let y = 0; y < 28; y++)
          for (let x = 0; x < 28; x++)
            if (
              scenes.pixels[(k * 64 + top + y) * 64 + left + x] <
              (digits as MemorySet).pixels[(digit * 28 + y) * 28 + x]
            )
              return false;
        return true;
      };
      for (let digit = 0; digit < digits.count; digit++)
        for (let quadrant = 0; quadrant < 4; quadrant++)
          for (let offset = 0; offset < 25; offset++) {
            const top = Math.floor(quadrant / 2) * 32 + Math.floor(offset / 5);
            if (!holds(digit, top, (quadrant % 2) * 32 + (offset % 5))) continue;
            inside.push(quadrant);
            if (quadrant === scenes.quadrants[k] && digits.labels[digit] === scenes.labels[k])
              used.add(digit);
          }
      assert.equal([...new Set(inside)], [scenes.quadrants[k]], `scene ${k}`);
    }
    assert.is(used.size, 40); // no digit twice
  }
});

quadrants("digits are in every quadrant equally often, and clutter is", () => {
  const counts = [0, 0, 0, 0];
  const light = [0, 0, 0, 0];
  for (let k = 0; k < train.count; k++) {
    counts[train.quadrants[k]]++;
    for (let p = 0; p < 64 * 64; p++) {
      const quadrant = 2 * Math.floor(p / 64 / 32) + Math.floor((p % 64) / 32);
      if (quadrant !== train.quadrants[k]) light[quadrant] += train.pixels[k * 64 * 64 + p];
    }
  }
  for (const n of counts) assert.ok(Math.abs(n - 150) < 45, `${counts}`);
  const each = light.map((sum, quadrant) => sum / (train.count - counts[quadrant]));
  for (const value of each) assert.ok(Math.abs(value / each[0] - 1) < 0.12, `${each}`);
});

quadrants("the same set every time, recorded", () => {
  const hash = createHash("sha256");
  for (const { pixels, labels, quadrants } of [train, test])
    hash.update(pixels).update(Uint8Array.from(labels)).update(quadrants);
  assert.is(hash.digest("hex").slice(0, 16), "08e7db0370d499fc");
  const again = quadrantScenes(few);
  assert.equal(again.test, test);
});

quadrants.run();
