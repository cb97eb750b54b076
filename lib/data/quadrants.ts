/**
 * Scenes in which something must be found: an MNIST digit in one of the four quadrants of a 64 x 64 canvas, among clutter. The
 * clutter (pieces of other digits, strokes, speckles) is spread evenly over the whole canvas, so that only the digit tells its
 * quadrant from the others.
 */
import { philox4x32, permutation, STREAM } from "../util/philox.js";
import { type DataSource, type MemorySet, sharedBytes } from "./image_set.js";

const SIDE = 64;
const HALF = SIDE / 2;
const COUNTS = { train: 20_000, test: 5_000 };
/** The set is one fixed set: its seed is part of its definition. */
const SEED = 64;
const PIECES = 8;
const STROKES = 3;
const SPECKLES = 48;

export interface QuadrantsDataset extends MemorySet {
  /** Where each image's digit is: 0 top left, 1 top right, 2 bottom left, 3 bottom right. */
  quadrants: Uint8Array;
}

export interface QuadrantsSource extends DataSource {
  train: QuadrantsDataset;
  test: QuadrantsDataset;
}

/** 20,000 training and 5,000 test scenes of the digits of `mnist`, no digit in two of them. The label is the digit. */
export function quadrantScenes(mnist: DataSource): QuadrantsSource {
  return {
    name: "quadrants",
    train: scenes(mnist.train as MemorySet, COUNTS.train, 0),
    test: scenes(mnist.test as MemorySet, COUNTS.test, 1),
    classes: mnist.classes,
  };
}

function scenes(digits: MemorySet, wanted: number, split: number): QuadrantsDataset {
  const count = Math.min(wanted, digits.count);
  const chosen = permutation(digits.count, SEED, STREAM.scene, split);
  const pixels = sharedBytes(count * SIDE * SIDE);
  const labels = new Int32Array(count);
  const quadrants = new Uint8Array(count);
  for (let k = 0; k < count; k++) {
    const draw = drawsOf(2 + 2 * k + split);
    const canvas = pixels.subarray(k * SIDE * SIDE, (k + 1) * SIDE * SIDE);
    labels[k] = digits.labels[chosen[k]];
    quadrants[k] = draw(4);
    for (let n = 0; n < PIECES; n++) addPiece(canvas, digits, draw);
    for (let n = 0; n < STROKES; n++) addStroke(canvas, draw);
    for (let n = 0; n < SPECKLES; n++) brighten(canvas, draw(SIDE), draw(SIDE), draw(256));
    addDigit(canvas, digits, chosen[k], quadrants[k], draw);
  }
  return { kind: "memory", pixels, labels, quadrants, count, height: SIDE, width: SIDE, channels: 1 };
}

/** Whole numbers from 0 to below n, one after the other: the draws of one scene. */
type Draw = (n: number) => number;

function drawsOf(counter: number): Draw {
  let [block, words] = [0, [] as number[]];
  return (n) => {
    if (words.length === 0) words = philox4x32([block++, STREAM.scene << 16, counter, 0], [SEED, 0]);
    return Math.floor(((words.pop() as number) / 2 ** 32) * n);
  };
}

/** Bright things lie over dark ones. */
function brighten(canvas: Uint8Array, y: number, x: number, value: number): void {
  if (y < 0 || y >= SIDE || x < 0 || x >= SIDE) return;
  canvas[y * SIDE + x] = Math.max(canvas[y * SIDE + x], value);
}

function addDigit(canvas: Uint8Array, digits: MemorySet, digit: number, quadrant: number, draw: Draw): void {
  const { pixels, height, width } = digits;
  const top = Math.floor(quadrant / 2) * HALF + draw(HALF - height + 1);
  const left = (quadrant % 2) * HALF + draw(HALF - width + 1);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      brighten(canvas, top + y, left + x, pixels[(digit * height + y) * width + x]);
}

/** A square of 6 to 10 pixels from the middle of some digit, anywhere on the canvas. */
function addPiece(canvas: Uint8Array, { pixels, count, height, width }: MemorySet, draw: Draw): void {
  const [digit, side] = [draw(count), 6 + draw(5)];
  const [fromTop, fromLeft] = [4 + draw(height - side - 7), 4 + draw(width - side - 7)];
  const [top, left] = [draw(SIDE - side + 1), draw(SIDE - side + 1)];
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      brighten(canvas, top + y, left + x, pixels[(digit * height + fromTop + y) * width + fromLeft + x]);
}

/** A straight line of 8 to 20 pixels and two pixels' width, around a point anywhere on the canvas. */
function addStroke(canvas: Uint8Array, draw: Draw): void {
  const [y, x, length, value] = [draw(SIDE), draw(SIDE), 8 + draw(13), 128 + draw(128)];
  const angle = (draw(180) * Math.PI) / 180;
  for (let along = -length / 2; along < length / 2; along += 0.5) {
    const [row, column] = [Math.round(y + along * Math.sin(angle)), Math.round(x + along * Math.cos(angle))];
    for (const [down, right] of [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ])
      brighten(canvas, row + down, column + right, value);
  }
}
