/** The quadtree's index tables, without the addon. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  crossOrders,
  inverse,
  paddedSize,
  quadOrders,
  quadPartition,
  windowShift,
} from "../../lib/models/quadmamba/partition.js";

const partition = suite("partition");

const isPermutation = (list: Int32Array): boolean =>
  new Set(list).size === list.length && Math.min(...list) === 0 && Math.max(...list) === list.length - 1;

const SHIFTS: [number, number][] = [
  [0, 0],
  [1, 1],
  [-1, 1],
  [-2, -1],
];

for (const [height, width] of [
  [4, 4],
  [8, 8],
  [8, 12],
  [16, 4],
] as const) {
  for (const shift of SHIFTS) {
    partition(
      `${height} x ${width}, shift ${shift}: every order is a permutation, and each quadrant keeps its place`,
      () => {
        const p = quadPartition(height, width, shift, "paper");
        const orders = quadOrders(p);
        const quarter = p.tokens / 4;
        for (let choice = 0; choice < 4; choice++) {
          const forward = orders.subarray(2 * choice * p.tokens, (2 * choice + 1) * p.tokens);
          const backward = orders.subarray((2 * choice + 1) * p.tokens, (2 * choice + 2) * p.tokens);
          assert.ok(isPermutation(forward));
          assert.equal([...backward], [...forward].reverse());
          forward.forEach((token, place) => assert.is(p.quadrant[token], Math.floor(place / quarter)));
        }
      },
    );
  }
}

partition("fine order of an 8 x 8 map: the chosen quadrant as four windows of 2 x 2", () => {
  const p = quadPartition(8, 8, [0, 0], "paper");
  const order = [...quadOrders(p).subarray(0, 64)]; // the first quadrant is chosen
  assert.equal(order.slice(0, 16), [0, 1, 8, 9, 2, 3, 10, 11, 16, 17, 24, 25, 18, 19, 26, 27]);
  assert.equal(order.slice(16, 32), [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31]);
});

partition(
  "released: an eighth of the places gets two tokens and an eighth none, whichever quadrant is chosen",
  () => {
    const p = quadPartition(8, 8, [0, 0], "released");
    for (let choice = 0; choice < 4; choice++) {
      const received = new Int32Array(p.tokens);
      for (let token = 0; token < p.tokens; token++)
        received[p.quadrant[token] === choice ? p.fine[token] : p.coarse[token]]++;
      assert.is(received.filter((n) => n === 2).length, p.tokens / 8);
      assert.is(received.filter((n) => n === 0).length, p.tokens / 8);
    }
  },
);

partition("a shift moves tokens, and they come back", () => {
  const plain = quadPartition(8, 8, [0, 0], "paper");
  const shifted = quadPartition(8, 8, [1, -1], "paper");
  // the token that a roll by (1, -1) carries to (y, x) comes from (y - 1, x + 1)
  for (let y = 0; y < 8; y++)
    for (let x = 0; x < 8; x++) {
      const from = ((y + 7) % 8) * 8 + ((x + 1) % 8);
      assert.is(shifted.coarse[from], plain.coarse[y * 8 + x]);
      assert.is(shifted.fine[from], plain.fine[y * 8 + x]);
    }
});

partition("shift directions follow the block's index in the model", () => {
  assert.equal(windowShift(0, 0, 56), [0, 0]);
  assert.equal(windowShift(1, 1, 56), [7, 7]);
  assert.equal(windowShift(1, 3, 28), [-3, -3]);
  assert.equal(windowShift(3, 5, 28), [3, -3]);
  assert.equal(windowShift(5, 7, 28), [-3, 3]);
});

partition("cross orders: rows, columns, and both reversed", () => {
  const orders = crossOrders(2, 3);
  assert.equal([...orders.subarray(0, 6)], [0, 1, 2, 3, 4, 5]);
  assert.equal([...orders.subarray(6, 12)], [0, 3, 1, 4, 2, 5]);
  assert.equal([...orders.subarray(12, 18)], [5, 4, 3, 2, 1, 0]);
  assert.equal([...orders.subarray(18)], [5, 2, 4, 1, 3, 0]);
});

partition("inverse and padding", () => {
  assert.equal([...inverse(Int32Array.of(2, 0, 1))], [1, 2, 0]);
  assert.equal([4, 5, 7, 8, 9].map(paddedSize), [4, 8, 8, 8, 12]);
  assert.throws(() => quadPartition(6, 8, [0, 0], "paper"), /halve twice/);
});

partition.run();
