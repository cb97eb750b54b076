/**
 * The quadtree as index tables: pure functions of the map's size. Tokens are numbered row by row; a table maps tokens to
 * places of the sequence, or places to tokens.
 */
import { ShapeError, show } from "../../util/errors.js";
import type { Semantics } from "./config.js";

export const QUADRANTS = 4;

/** The next size that halves twice. */
export function paddedSize(n: number): number {
  return Math.ceil(n / 4) * 4;
}

/**
 * Shift [rows, columns] of a block's windows: every second block of a stage turns the map by an eighth of its height, in one
 * of four directions that follow each other.
 * @param blockInStage counted from 0  @param blockInModel counted from 0 over all stages  @param height of the padded map
 */
export function windowShift(blockInStage: number, blockInModel: number, height: number): [number, number] {
  if (blockInStage % 2 === 0) return [0, 0];
  const n = Math.floor(height / 8);
  const directions: [number, number][] = [
    [n, n],
    [-n, -n],
    [n, -n],
    [-n, n],
  ];
  return directions[Math.floor(blockInModel / 2) % 4];
}

export interface Partition {
  tokens: number;
  /** Token -> quadrant of the (shifted) map: 0 top left, 1 top right, 2 bottom left, 3 bottom right. */
  quadrant: Int32Array;
  /** Token -> place, if its quadrant is read as one window. */
  coarse: Int32Array;
  /** Token -> place, if its quadrant is read as four windows, one after the other. */
  fine: Int32Array;
}

/**
 * Places of all tokens of a height x width map (multiples of 4) whose windows are shifted: token (y, x) stands where an
 * unshifted one at ((y + shift rows) mod height, (x + shift columns) mod width) would.
 *
 * Coarse places follow (quadrant row, quadrant column, y, x). Fine ones follow (quadrant row, quadrant column, sub-row,
 * sub-column, y, x), so that a quadrant read finely fills exactly its coarse place. The released code orders them (quadrant
 * row, sub-row, quadrant column, sub-column, y, x) instead.
 */
export function quadPartition(
  height: number,
  width: number,
  shift: [number, number],
  semantics: Semantics,
): Partition {
  if (height % 4 !== 0 || width % 4 !== 0)
    throw new ShapeError(
      "quadPartition",
      "the map does not halve twice",
      "multiples of 4",
      show([height, width]),
    );
  const tokens = height * width;
  const quadrant = new Int32Array(tokens);
  const coarse = new Int32Array(tokens);
  const fine = new Int32Array(tokens);
  const [halfHeight, halfWidth] = [height / 2, width / 2];
  const [subHeight, subWidth] = [height / 4, width / 4];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const token = row * width + column;
      const y = (row + shift[0] + height) % height;
      const x = (column + shift[1] + width) % width;
      const [quadRow, quadColumn] = [Math.floor(y / halfHeight), Math.floor(x / halfWidth)];
      const [subRow, subColumn] = [
        Math.floor((y % halfHeight) / subHeight),
        Math.floor((x % halfWidth) / subWidth),
      ];
      quadrant[token] = quadRow * 2 + quadColumn;
      coarse[token] = mixed(
        [quadRow, quadColumn, y % halfHeight, x % halfWidth],
        [2, 2, halfHeight, halfWidth],
      );
      const inSub = [y % subHeight, x % subWidth];
      fine[token] =
        semantics === "paper"
          ? mixed([quadRow, quadColumn, subRow, subColumn, ...inSub], [2, 2, 2, 2, subHeight, subWidth])
          : mixed([quadRow, subRow, quadColumn, subColumn, ...inSub], [2, 2, 2, 2, subHeight, subWidth]);
    }
  }
  return { tokens, quadrant, coarse, fine };
}

/** The number with these digits in these bases, most significant first. */
function mixed(digits: number[], bases: number[]): number {
  return digits.reduce((n, digit, k) => n * bases[k] + digit, 0);
}

/** Place -> token from token -> place. */
export function inverse(places: Int32Array): Int32Array {
  const tokens = new Int32Array(places.length);
  for (let token = 0; token < places.length; token++) tokens[places[token]] = token;
  return tokens;
}

/**
 * For each choice of a quadrant, the tokens in scan order ('paper': a permutation), forward and then reversed:
 * [4, 2, tokens] flat.
 */
export function quadOrders({ tokens, quadrant, coarse, fine }: Partition): Int32Array {
  const orders = new Int32Array(QUADRANTS * 2 * tokens);
  for (let choice = 0; choice < QUADRANTS; choice++) {
    for (let token = 0; token < tokens; token++) {
      const place = quadrant[token] === choice ? fine[token] : coarse[token];
      orders[2 * choice * tokens + place] = token;
      orders[(2 * choice + 1) * tokens + (tokens - 1 - place)] = token;
    }
  }
  return orders;
}

/** Tokens in the four directions of the plain block: by rows, by columns, and both reversed; [4, tokens] flat. */
export function crossOrders(height: number, width: number): Int32Array {
  const tokens = height * width;
  const orders = new Int32Array(4 * tokens);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const token = row * width + column;
      const byColumns = column * height + row;
      orders[token] = token;
      orders[tokens + byColumns] = token;
      orders[2 * tokens + (tokens - 1 - token)] = token;
      orders[3 * tokens + (tokens - 1 - byColumns)] = token;
    }
  }
  return orders;
}
