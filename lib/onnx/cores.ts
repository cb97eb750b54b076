/** The scan cores: tokens into scan order, scanned, and back. Orders are tables of constants; the quadtree picks one by arg-max. */
import {
  bothWays,
  crossOrders,
  inverse,
  paddedSize,
  quadOrders,
  quadPartition,
  type Tree,
  windowShift,
} from "../models/quadmamba/partition.js";
import type { Value } from "./graph.js";
import { gelu, layerNorm, linear, type ModelGraph, reshape, sum, type Table } from "./layers.js";
import { selectiveScan } from "./scan.js";

/** Of the paper, in four directions: other ones are refused before anything is built. */
const TREE: Tree = { grid: 2, levels: 2 };
const QUADRANTS = 4;
const SHIFT_DIRECTIONS = 4;

/** The size of a map. */
export interface MapSize {
  height: number;
  width: number;
  channels: number;
}

/** The plain block's core: by rows, by columns, and both reversed. @param x [batch, height, width, channels] */
export function crossScan(g: ModelGraph, x: Value, op: string, { height, width, channels }: MapSize): Value {
  const tokens = height * width;
  const y = scanInOrder(
    g,
    reshape(g, x, tokens, channels),
    op,
    { key: `cross ${height} ${width}`, order: crossOrders(height, width) },
    { tokens, channels },
  );
  return reshape(g, y, height, width, channels);
}

export interface QuadBlock {
  semantics: "paper" | "released";
  blockInStage: number;
  blockInModel: number;
}

/** The quad block's core. Maps that do not halve twice are zero-padded and cropped, as in the model. */
export function quadScan(g: ModelGraph, x: Value, op: string, size: MapSize, block: QuadBlock): Value {
  const { height, width, channels } = size;
  const full = { height: paddedSize(height, TREE), width: paddedSize(width, TREE), channels };
  const [below, right] = [full.height - height, full.width - width];
  const padded = below > 0 || right > 0;
  const tokens = full.height * full.width;
  const map = padded ? g.node("Pad", [x, g.ints(0, 0, 0, 0, 0, below, right, 0)]) : x;
  const flat = reshape(g, map, tokens, channels);
  const choice = chooseQuadrant(g, flat, op, full, block);
  const y =
    block.semantics === "paper"
      ? permuted(g, flat, choice, op, full, block)
      : masked(g, flat, choice, op, full, block);
  if (!padded) return reshape(g, y, height, width, channels);
  const whole = reshape(g, y, full.height, full.width, channels);
  return g.node("Slice", [whole, g.ints(0, 0), g.ints(height, width), g.ints(1, 2)]);
}

/** 'paper': for each choice, an order that is a permutation. */
function permuted(
  g: ModelGraph,
  x: Value,
  choice: Value,
  op: string,
  size: MapSize,
  block: QuadBlock,
): Value {
  const { height, width, channels } = size;
  const tokens = height * width;
  const shift = windowShift(block.blockInStage, block.blockInModel, height, SHIFT_DIRECTIONS);
  const key = `quad ${height} ${width} shift ${shift}`;
  const order = () => quadOrders(quadPartition(height, width, shift, TREE, "paper"), QUADRANTS);
  // Scan order: [choice, direction, place] -> token; back: [choice, direction, token] -> place among those of both directions.
  const row = (name: string, table: () => Int32Array): Value => {
    const all = g.constant(`${key} ${name}`, () => indices(table(), [QUADRANTS, 2 * tokens]));
    return g.node("Unsqueeze", [g.node("Gather", [all, choice]), g.ints(2)]);
  };
  const there = row("order", order);
  const back = row("places", () => inverses(order(), tokens, 2));
  const gather = (value: Value, index: Value): Value =>
    reshape(g, g.node("GatherND", [value, index], { batch_dims: 1 }), 2, tokens, channels);
  const scanned = selectiveScan(g, gather(x, there), op);
  return sum(g, gather(reshape(g, scanned, 2 * tokens, channels), back), 1);
}

/** 'released': some places receive two tokens and some none, so the sequence is put together with masks. */
function masked(g: ModelGraph, x: Value, choice: Value, op: string, size: MapSize, block: QuadBlock): Value {
  const { height, width, channels } = size;
  const tokens = height * width;
  const shift = windowShift(block.blockInStage, block.blockInModel, height, SHIFT_DIRECTIONS);
  const key = `released quad ${height} ${width} shift ${shift}`;
  const [coarse, fine] = quadPartition(height, width, shift, TREE, "released");
  const masks = g.constant(`${key} masks`, () => ({
    data: Float32Array.from({ length: QUADRANTS * tokens }, (_, k) =>
      coarse.window[k % tokens] === Math.floor(k / tokens) ? 1 : 0,
    ),
    shape: [QUADRANTS, tokens, 1],
  }));
  const mask = g.node("Gather", [masks, choice]);
  const rest = g.node("Sub", [g.float(1), mask]);
  const take = (value: Value, name: string, table: Int32Array): Value =>
    g.node("Gather", [value, g.constant(`${key} ${name}`, () => indices(table, [tokens]))], { axis: 1 });
  const sequence = g.node("Add", [
    take(g.node("Mul", [x, mask]), "fine tokens", inverse(fine.place)),
    take(g.node("Mul", [x, rest]), "coarse tokens", inverse(coarse.place)),
  ]);
  const both = {
    key: `both ${tokens}`,
    order: bothWays(Int32Array.from({ length: tokens }, (_, k) => k)),
  };
  const y = scanInOrder(g, sequence, op, both, { tokens, channels });
  return g.node("Add", [
    g.node("Mul", [take(y, "fine", fine.place), mask]),
    g.node("Mul", [take(y, "coarse", coarse.place), rest]),
  ]);
}

/** Scans along a fixed order of each direction and sums the directions on their tokens. @param x [batch, tokens, channels] */
function scanInOrder(
  g: ModelGraph,
  x: Value,
  op: string,
  { key, order }: { key: string; order: Int32Array },
  { tokens, channels }: { tokens: number; channels: number },
): Value {
  const directions = order.length / tokens;
  const take = (value: Value, name: string, table: Int32Array): Value => {
    const index = g.constant(`${key} ${name}`, () => indices(table, [table.length]));
    return reshape(g, g.node("Gather", [value, index], { axis: 1 }), directions, tokens, channels);
  };
  const scanned = selectiveScan(g, take(x, "order", order), op);
  const flat = reshape(g, scanned, directions * tokens, channels);
  return sum(g, take(flat, "places", inverses(order, tokens, directions)), 1);
}

/**
 * The quadrant with the best mean score, [batch]; the first of equals. In float64, as in the model: quadrants differ by little of
 * a log-probability's size, and a choice that tips over is another image to all that follows.
 */
function chooseQuadrant(g: ModelGraph, x: Value, op: string, size: MapSize, block: QuadBlock): Value {
  const { height, width } = size;
  const paper = block.semantics === "paper";
  const predictor = `${op}.score_predictor`;
  // Scores are shifted with the windows in 'paper' only.
  const shift: [number, number] = paper
    ? windowShift(block.blockInStage, block.blockInModel, height, SHIFT_DIRECTIONS)
    : [0, 0];
  const logits = g.inDouble(x, (tokens) => {
    const norm = layerNorm(g, tokens, `${predictor}.in_conv.0`);
    let y = gelu(g, linear(g, norm, `${predictor}.in_conv.1`));
    if (paper) y = withContext(g, y, size);
    y = gelu(g, linear(g, y, `${predictor}.out_conv.0`));
    y = gelu(g, linear(g, y, `${predictor}.out_conv.2`));
    const classes = g.node("LogSoftmax", [linear(g, y, `${predictor}.out_conv.4`)], { axis: -1 });
    const scores = g.node("Slice", [classes, g.ints(0), g.ints(1), g.ints(2)]);
    const means = g.table(`means ${height} ${width} shift ${shift}`, () =>
      quadrantMeans(quadPartition(height, width, shift, TREE, "paper")[0].window),
    );
    return g.node("MatMul", [means, scores]);
  });
  return g.node("ArgMax", [reshape(g, logits, QUADRANTS)], { axis: 1, keepdims: 0 });
}

/** [second half of the channels, first half averaged over each quadrant and stretched to the map]: both are products. */
function withContext(g: ModelGraph, x: Value, { height, width, channels }: MapSize): Value {
  const half = channels / 2;
  const [local, global] = g.nodes("Split", [x, g.ints(half, half)], 2, { axis: -1 });
  const means = g.table(`means ${height} ${width} shift 0,0`, () =>
    quadrantMeans(quadPartition(height, width, [0, 0], TREE, "paper")[0].window),
  );
  const spread = g.table(`context ${height} ${width}`, () => stretch(height, width));
  const context = g.node("MatMul", [spread, g.node("MatMul", [means, local])]);
  return g.node("Concat", [global, context], { axis: -1 });
}

/** Means over the quadrants as a matrix, [quadrants, tokens]. */
function quadrantMeans(quadrant: Int32Array): Table {
  const tokens = quadrant.length;
  const data = new Float64Array(QUADRANTS * tokens);
  quadrant.forEach((q, token) => {
    data[q * tokens + token] = QUADRANTS / tokens;
  });
  return { data, shape: [QUADRANTS, tokens] };
}

/** Bilinear stretching of 2 x 2 values to a map (pixel centres; constant beyond the outer ones), [tokens, quadrants]. */
function stretch(height: number, width: number): Table {
  const second = (k: number, n: number): number => Math.min(1, Math.max(0, ((k + 0.5) * 2) / n - 0.5));
  const data = Float64Array.from({ length: height * width * QUADRANTS }, (_, k) => {
    const [token, q] = [Math.floor(k / QUADRANTS), k % QUADRANTS];
    const down = second(Math.floor(token / width), height);
    const right = second(token % width, width);
    return (q >= 2 ? down : 1 - down) * (q % 2 === 1 ? right : 1 - right);
  });
  return { data, shape: [height * width, QUADRANTS] };
}

/**
 * Tokens -> places of orders [.., direction, place], each list counted from its own start; the places of a row of `directions`
 * lists are numbered through.
 */
function inverses(orders: Int32Array, tokens: number, directions: number): Int32Array {
  const places = new Int32Array(orders.length);
  for (let begin = 0; begin < orders.length; begin += tokens) {
    const offset = begin % (directions * tokens);
    for (let place = 0; place < tokens; place++) places[begin + orders[begin + place]] = offset + place;
  }
  return places;
}

function indices(table: Int32Array, shape: readonly number[]) {
  return { data: BigInt64Array.from(table, BigInt), shape };
}
