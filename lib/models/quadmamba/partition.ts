/**
 * The quadtree as index tables: pure functions of the map's size. Tokens are numbered row by row; a table maps tokens to
 * places of the sequence, or places to tokens.
 */
import { ShapeError, show } from "../../util/errors.js";
import type { Semantics } from "./config.js";

/**
 * A tree of windows. The map is cut into grid x grid windows (level 0), which are read one after the other; a window that is
 * divided is read as its four quadrants instead, a level deeper. The paper's tree has a grid of 2 and two levels.
 */
export interface Tree {
  /** Windows on a side of level 0. */
  grid: number;
  /** Levels of windows. With one nothing is divided. */
  levels: number;
}

/** Windows on a side of a level. */
export function windowsAcross({ grid }: Tree, level: number): number {
  return grid * 2 ** level;
}

/** The next size that the windows of all levels divide. */
export function paddedSize(n: number, tree: Tree): number {
  const across = windowsAcross(tree, tree.levels - 1);
  return Math.ceil(n / across) * across;
}

/** Into how many directions windows are shifted: none; always down and to the right; or four that follow each other. */
export type ShiftDirections = 0 | 1 | 4;

/**
 * Shift [rows, columns] of a block's windows: every second block of a stage turns the map by an eighth of its height.
 * @param blockInStage counted from 0  @param blockInModel counted from 0 over all stages  @param height of the padded map
 */
export function windowShift(
  blockInStage: number,
  blockInModel: number,
  height: number,
  directions: ShiftDirections,
): [number, number] {
  if (blockInStage % 2 === 0 || directions === 0) return [0, 0];
  const n = Math.floor(height / 8);
  const turns: [number, number][] = [
    [n, n],
    [-n, -n],
    [n, -n],
    [-n, n],
  ];
  return turns[Math.floor(blockInModel / 2) % directions];
}

/** One level of a partition. */
export interface Level {
  /** Token -> its window, counted row by row over the (shifted) map: of a grid of 2, 0 top left to 3 bottom right. */
  window: Int32Array;
  /** Token -> place, if its window is divided from, and is itself read whole. */
  place: Int32Array;
}

/**
 * Where the tokens of a height x width map stand at every level of the tree. The windows are shifted: token (y, x) stands where
 * an unshifted one at ((y + shift rows) mod height, (x + shift columns) mod width) would.
 *
 * Places follow (row and column of the grid, row and column of the quadrant, of the quadrant in it ..., y, x), so that a divided
 * window fills exactly the places it has as a whole. The released code orders level 1 (window row, quadrant row, window column,
 * quadrant column, y, x) instead.
 */
export function quadPartition(
  height: number,
  width: number,
  shift: [number, number],
  tree: Tree,
  semantics: Semantics,
): Level[] {
  if (height !== paddedSize(height, tree) || width !== paddedSize(width, tree))
    throw new ShapeError(
      "quadPartition",
      "the windows do not divide the map",
      `multiples of ${windowsAcross(tree, tree.levels - 1)}`,
      show([height, width]),
    );
  return Array.from({ length: tree.levels }, (_, level) => {
    const across = windowsAcross(tree, level);
    const [windowHeight, windowWidth] = [height / across, width / across];
    const bases = [tree.grid, ...new Array<number>(level).fill(2)];
    const placeOf = (y: number, x: number): number => {
      const rows = digits(Math.floor(y / windowHeight), bases);
      const columns = digits(Math.floor(x / windowWidth), bases);
      const path =
        semantics === "released" && level === 1
          ? [...rows, ...columns]
          : rows.flatMap((digit, k) => [digit, columns[k]]);
      return mixed(
        [...path, y % windowHeight, x % windowWidth],
        [...bases.flatMap((base) => [base, base]), windowHeight, windowWidth],
      );
    };
    // every digit counts for itself, so a place is what its row and what its column add up to
    const down = Array.from({ length: height }, (_, y) => placeOf(y, 0));
    const right = Array.from({ length: width }, (_, x) => placeOf(0, x));
    const window = new Int32Array(height * width);
    const place = new Int32Array(height * width);
    for (let token = 0; token < place.length; token++) {
      const y = (Math.floor(token / width) + shift[0] + height) % height;
      const x = ((token % width) + shift[1] + width) % width;
      window[token] = Math.floor(y / windowHeight) * across + Math.floor(x / windowWidth);
      place[token] = down[y] + right[x];
    }
    return { window, place };
  });
}

/** The `count` digits of n in these bases, most significant first. */
function digits(n: number, bases: number[]): number[] {
  let rest = n;
  return bases
    .toReversed()
    .map((base) => {
      const digit = rest % base;
      rest = Math.floor(rest / base);
      return digit;
    })
    .reverse();
}

/** The number with these digits in these bases, most significant first. */
function mixed(digits: number[], bases: number[]): number {
  return digits.reduce((n, digit, k) => n * bases[k] + digit, 0);
}

/** Windows of a level -> the windows of the level above that they are quadrants of. */
export function parents(tree: Tree, level: number): Int32Array {
  const across = windowsAcross(tree, level);
  return Int32Array.from(
    { length: across * across },
    (_, k) => Math.floor(Math.floor(k / across) / 2) * (across / 2) + Math.floor((k % across) / 2),
  );
}

/** Place -> token from token -> place. */
export function inverse(places: Int32Array): Int32Array {
  const tokens = new Int32Array(places.length);
  for (let token = 0; token < places.length; token++) tokens[places[token]] = token;
  return tokens;
}

/** A sequence, and after it the same backwards. */
export function bothWays(sequence: Int32Array): Int32Array {
  return Int32Array.from([...sequence, ...sequence.toReversed()]);
}

/**
 * Of two levels: for each choice of one window to divide, the tokens in scan order ('paper': a permutation), forward and then
 * reversed; [windows, 2 tokens] flat.
 */
export function quadOrders([coarse, fine]: Level[], windows: number): Int32Array {
  const tokens = coarse.place.length;
  const orders = new Int32Array(windows * 2 * tokens);
  for (let choice = 0; choice < windows; choice++) {
    const order = new Int32Array(tokens);
    for (let token = 0; token < tokens; token++)
      order[(coarse.window[token] === choice ? fine : coarse).place[token]] = token;
    orders.set(bothWays(order), 2 * choice * tokens);
  }
  return orders;
}

/** The tokens of a map whose windows of side x side (smaller at the far edges) are read one after the other, row by row. */
function windowOrder(height: number, width: number, side: number): Int32Array {
  const order = new Int32Array(height * width);
  let place = 0;
  for (let top = 0; top < height; top += side)
    for (let left = 0; left < width; left += side)
      for (let y = top; y < Math.min(top + side, height); y++)
        for (let x = left; x < Math.min(left + side, width); x++) order[place++] = y * width + x;
  return order;
}

/**
 * Tokens in the four directions of the plain block: by rows, by columns, and both reversed; [4, tokens] flat.
 * @param window side of the windows that are read one after the other in each direction; 0: the map is one window
 */
export function crossOrders(height: number, width: number, window = 0): Int32Array {
  const side = window || Math.max(height, width);
  const byRows = windowOrder(height, width, side);
  // the turned map's token x * height + y is y * width + x here
  const byColumns = windowOrder(width, height, side).map(
    (token) => (token % height) * width + Math.floor(token / height),
  );
  return Int32Array.from([...byRows, ...byColumns, ...byRows.toReversed(), ...byColumns.toReversed()]);
}
