/** The quadtree's index tables, without the addon. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  bothWays,
  crossOrders,
  inverse,
  paddedSize,
  parents,
  quadOrders,
  quadPartition,
  type Tree,
  windowShift,
  windowsAcross,
} from "../../lib/models/quadmamba/partition.js";

const partition = suite("partition");

const PAPER: Tree = { grid: 2, levels: 2 };
const TREES: Tree[] = [
  { grid: 1, levels: 1 },
  { grid: 1, levels: 2 },
  PAPER,
  { grid: 4, levels: 2 },
  { grid: 1, levels: 3 },
  { grid: 2, levels: 3 },
  { grid: 4, levels: 3 },
];
const SHIFTS: [number, number][] = [
  [0, 0],
  [1, 1],
  [-1, 1],
  [-2, -1],
];

/** The tokens as a walk through the tree meets them: a divided window is its four quadrants, any other its rows. */
function walk(
  height: number,
  width: number,
  shift: [number, number],
  tree: Tree,
  divided: Set<number>[],
): number[] {
  const tokens: number[] = [];
  const visit = (level: number, row: number, column: number): void => {
    const across = windowsAcross(tree, level);
    if (divided[level]?.has(row * across + column)) {
      for (const [down, right] of [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
      ])
        visit(level + 1, 2 * row + down, 2 * column + right);
      return;
    }
    for (let y = (row * height) / across; y < ((row + 1) * height) / across; y++)
      for (let x = (column * width) / across; x < ((column + 1) * width) / across; x++)
        tokens.push(((y - shift[0] + height) % height) * width + ((x - shift[1] + width) % width));
  };
  for (let row = 0; row < tree.grid; row++)
    for (let column = 0; column < tree.grid; column++) visit(0, row, column);
  return tokens;
}

/** All choices of up to two divided windows a level, each within divided windows of the level above. */
function* choices(tree: Tree, level = 0, above?: Set<number>): Generator<Set<number>[]> {
  if (level === tree.levels - 1) {
    yield [];
    return;
  }
  const of = level > 0 ? parents(tree, level) : undefined;
  const free = Array.from({ length: windowsAcross(tree, level) ** 2 }, (_, k) => k).filter(
    (k) => !of || !above || above.has(of[k]),
  );
  for (let a = 0; a < free.length; a++)
    for (let b = a; b < free.length; b++) {
      const here = new Set([free[a], free[b]]);
      for (const deeper of choices(tree, level + 1, here)) yield [here, ...deeper];
    }
}

for (const tree of TREES) {
  const unit = windowsAcross(tree, tree.levels - 1);
  for (const [high, wide] of [
    [1, 1],
    [2, 3],
  ]) {
    const [height, width] = [high * unit, wide * unit];
    for (const shift of unit * high > 2 ? SHIFTS : SHIFTS.slice(0, 1)) {
      partition(
        `grid ${tree.grid}, ${tree.levels} levels, ${height} x ${width}, shift ${shift}: as walked`,
        () => {
          const levels = quadPartition(height, width, shift, tree, "paper");
          const tokens = height * width;
          let seen = 0;
          for (const divided of choices(tree)) {
            // a stride keeps the largest trees to some hundred choices
            if (seen++ % (tree.grid === 4 && tree.levels === 3 ? 97 : 1) !== 0) continue;
            const order = new Int32Array(tokens).fill(-1);
            for (let token = 0; token < tokens; token++) {
              let level = 0;
              while (divided[level]?.has(levels[level].window[token])) level++;
              order[levels[level].place[token]] = token;
            }
            assert.equal([...order], walk(height, width, shift, tree, divided));
          }
          assert.ok(seen > 0);
        },
      );
    }
  }
}

partition("orders of a single choice, forward and reversed, are the walks", () => {
  for (const tree of TREES.filter(({ levels }) => levels === 2)) {
    const [height, width] = [4 * tree.grid, 2 * tree.grid];
    const tokens = height * width;
    for (const shift of SHIFTS) {
      const orders = quadOrders(quadPartition(height, width, shift, tree, "paper"), tree.grid ** 2);
      assert.is(orders.length, tree.grid ** 2 * 2 * tokens);
      for (let choice = 0; choice < tree.grid ** 2; choice++) {
        const order = walk(height, width, shift, tree, [new Set([choice])]);
        const at = 2 * choice * tokens;
        assert.equal([...orders.subarray(at, at + tokens)], order);
        assert.equal([...orders.subarray(at + tokens, at + 2 * tokens)], order.toReversed());
      }
    }
  }
});

partition("the paper's order of an 8 x 8 map: the chosen quadrant as four windows of 2 x 2", () => {
  const order = [...quadOrders(quadPartition(8, 8, [0, 0], PAPER, "paper"), 4).subarray(0, 64)]; // the first quadrant is chosen
  assert.equal(order.slice(0, 16), [0, 1, 8, 9, 2, 3, 10, 11, 16, 17, 24, 25, 18, 19, 26, 27]);
  assert.equal(order.slice(16, 32), [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31]);
});

partition("one level of one window is the raster", () => {
  const [{ place }] = quadPartition(3, 5, [0, 0], { grid: 1, levels: 1 }, "paper");
  assert.equal(
    [...place],
    Array.from({ length: 15 }, (_, k) => k),
  );
});

partition(
  "released: an eighth of the places gets two tokens and an eighth none, whichever quadrant is chosen",
  () => {
    const [coarse, fine] = quadPartition(8, 8, [0, 0], PAPER, "released");
    for (let choice = 0; choice < 4; choice++) {
      const received = new Int32Array(64);
      for (let token = 0; token < 64; token++)
        received[(coarse.window[token] === choice ? fine : coarse).place[token]]++;
      assert.is(received.filter((n) => n === 2).length, 8);
      assert.is(received.filter((n) => n === 0).length, 8);
    }
  },
);

partition("parents: four quadrants each", () => {
  assert.equal([...parents(PAPER, 1)], [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]);
  assert.equal([...parents({ grid: 1, levels: 3 }, 1)], [0, 0, 0, 0]);
});

partition("shift directions follow the block's index in the model", () => {
  assert.equal(windowShift(0, 0, 56, 4), [0, 0]);
  assert.equal(windowShift(1, 1, 56, 4), [7, 7]);
  assert.equal(windowShift(1, 3, 28, 4), [-3, -3]);
  assert.equal(windowShift(3, 5, 28, 4), [3, -3]);
  assert.equal(windowShift(5, 7, 28, 4), [-3, 3]);
  for (const block of [1, 3, 5, 7]) {
    assert.equal(windowShift(block, block, 56, 1), [7, 7]);
    assert.equal(windowShift(block, block, 56, 0), [0, 0]);
  }
});

partition("cross orders: rows, columns, and both reversed", () => {
  const orders = crossOrders(2, 3);
  assert.equal([...orders.subarray(0, 6)], [0, 1, 2, 3, 4, 5]);
  assert.equal([...orders.subarray(6, 12)], [0, 3, 1, 4, 2, 5]);
  assert.equal([...orders.subarray(12, 18)], [5, 4, 3, 2, 1, 0]);
  assert.equal([...orders.subarray(18)], [5, 2, 4, 1, 3, 0]);
});

partition("cross orders in windows: each is read to its end, smaller ones at the far edges", () => {
  const orders = crossOrders(3, 4, 2);
  const byRows = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11];
  const byColumns = [0, 4, 1, 5, 8, 9, 2, 6, 3, 7, 10, 11];
  assert.equal([...orders], [...byRows, ...byColumns, ...byRows.toReversed(), ...byColumns.toReversed()]);
  assert.equal(crossOrders(3, 4, 7), crossOrders(3, 4));
});

partition("inverse, both ways, and padding", () => {
  assert.equal([...inverse(Int32Array.of(2, 0, 1))], [1, 2, 0]);
  assert.equal([...bothWays(Int32Array.of(2, 0, 1))], [2, 0, 1, 1, 0, 2]);
  assert.equal(
    [4, 5, 7, 8, 9].map((n) => paddedSize(n, PAPER)),
    [4, 8, 8, 8, 12],
  );
  assert.equal(
    [5, 9].map((n) => paddedSize(n, { grid: 4, levels: 3 })),
    [16, 16],
  );
  assert.equal(paddedSize(5, { grid: 1, levels: 1 }), 5);
  assert.throws(
    () => quadPartition(6, 8, [0, 0], PAPER, "paper"),
    /windows do not divide the map.*multiples of 4/,
  );
});

partition.run();
