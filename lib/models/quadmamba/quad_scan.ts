import {
  adaptiveAvgPool2d,
  add,
  argmax,
  cast,
  gt,
  indexSelect,
  mul,
  pad,
  quadArrange,
  quadRestore,
  randGumbel,
  reshape,
  slice,
  split,
  sub,
  where,
  zeros,
} from "../../ops/index.js";
import { countMacs } from "../../ops/profile.js";
import { parameterDType } from "../../tensor/dtype.js";
import { scope } from "../../tensor/scope.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { QuadMambaConfig, Semantics } from "./config.js";
import {
  bothWays,
  inverse,
  paddedSize,
  parents,
  quadOrders,
  quadPartition,
  type Tree,
  windowShift,
  windowsAcross,
} from "./partition.js";
import { ScorePredictor } from "./score_predictor.js";
import { SS2D, type SS2DOptions } from "./ss2d.js";
import { TableCache } from "./tables.js";
import { chooseWindows, within } from "./window_choice.js";

export interface QuadScanOptions
  extends SS2DOptions,
    Pick<QuadMambaConfig, "semantics" | "partition" | "coarseGrid" | "levels" | "topK" | "shiftDirections"> {
  /** 1 to 4. */
  stage: number;
  blockInStage: number;
  blockInModel: number;
}

/** What one quad block made of a batch in one forward. The tensors live during the call that shows them. */
export interface PartitionSeen {
  /** 1 to 4. */
  stage: number;
  /** In its stage, from 0. */
  block: number;
  /** Of the map, padded so that its windows divide it. */
  height: number;
  width: number;
  /** By how many rows and columns the map was turned before it was partitioned. */
  shift: [number, number];
  semantics: Semantics;
  /**
   * What the block averages over windows, [batch, height, width, 1]: in 'paper' semantics shifted with the map. Zeros where the
   * partition is not learned.
   */
  scores: Tensor;
  /**
   * The window that is divided (of several, the first row by row), int64 [batch]: of a grid of 2, 0 top left, 1 top right,
   * 2 bottom left, 3 bottom right of the shifted map.
   */
  choice: Tensor;
  /** For each level but the last, which of its windows are divided: ones and zeros, [batch, windows]. */
  divided: readonly Tensor[];
}

type Tables = Record<string, Tensor>;

/**
 * The quad block's core: a predictor scores the map, the windows with the best (training: sampled) scores are read finely, and
 * the sequence is scanned forward and back. Maps that the windows do not divide are zero-padded at the bottom and the right.
 */
export class QuadScan extends SS2D {
  /** Of a learned partition. */
  score_predictor: ScorePredictor | null;
  readonly #options: QuadScanOptions;
  readonly #tree: Tree;
  /** Of 'released' semantics: the sequence is no permutation of the tokens. */
  readonly #masks: boolean;
  /** One window of few is divided: all orders are in a table. */
  readonly #single: boolean;
  readonly #tables = new TableCache((height, width) => this.#makeTables(height, width));
  readonly #watchers = new Set<(seen: PartitionSeen) => void>();

  constructor(options: QuadScanOptions) {
    super(2, options);
    const { partition, coarseGrid, levels, topK, innerChannels, semantics } = options;
    this.#options = options;
    this.#tree = partition === "none" ? { grid: 1, levels: 1 } : { grid: coarseGrid, levels };
    this.#masks = this.#tree.levels > 1 && semantics === "released";
    this.#single = this.#tree.levels === 2 && topK === 1;
    this.score_predictor = partition === "learned" ? new ScorePredictor(innerChannels, semantics) : null;
  }

  /** Windows on a side of every level whose windows can be divided. */
  get #divisible(): number[] {
    return Array.from({ length: this.#tree.levels - 1 }, (_, level) => windowsAcross(this.#tree, level));
  }

  /** How many numbers a sample's choice draws: one for each window that can be divided. 0 if nothing is drawn. */
  get draws(): number {
    const { partition } = this.#options;
    return partition === "learned" || partition === "random"
      ? this.#divisible.reduce((sum, across) => sum + across * across, 0)
      : 0;
  }

  /** Calls `watch` at every forward, until the returned function is called. */
  watch(watch: (seen: PartitionSeen) => void): () => void {
    const watcher = (seen: PartitionSeen): void => watch(seen);
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
    };
  }

  protected core(x: Tensor, noise?: Tensor): Tensor {
    const [batch, height, width, inner] = x.shape;
    const [fullHeight, fullWidth] = [paddedSize(height, this.#tree), paddedSize(width, this.#tree)];
    const padded = fullHeight !== height || fullWidth !== width;
    const full = padded
      ? pad(x, [
          [0, 0],
          [0, fullHeight - height],
          [0, fullWidth - width],
          [0, 0],
        ])
      : x;
    const tables = this.#tables.get(fullHeight, fullWidth, x.device);
    const divided = this.#choose(full, tables, noise);
    const tokens = reshape(full, [batch, fullHeight * fullWidth, inner]);
    const scanned = this.#masks
      ? this.#masked(tokens, divided[0], tables)
      : this.#permuted(tokens, divided, tables);
    const y = reshape(scanned, full.shape);
    return padded ? slice(slice(y, 1, 0, height), 2, 0, width) : y;
  }

  /** Which windows are divided: for each level but the last ones and zeros, [batch, windows], straight-through. */
  #choose(x: Tensor, tables: Tables, noise?: Tensor): Tensor[] {
    const { partition, semantics, topK, blockInStage, blockInModel, shiftDirections } = this.#options;
    const [batch, height, width] = x.shape;
    const across = this.#divisible;
    if (across.length === 0) return [];
    const shift = windowShift(blockInStage, blockInModel, height, shiftDirections);
    const scores = this.score_predictor
      ? this.score_predictor.forward(x, shift)
      : zeros([batch, height, width, 1], { dtype: parameterDType(x.dtype), device: x.device });
    if (this.score_predictor) countMacs(2 * batch * height * width); // pooling, and the mask over tokens
    const { dtype, device } = scores;
    const drawn =
      partition === "random" || (partition === "learned" && (this.training || semantics === "released"));
    const given =
      noise &&
      split(
        cast(noise, dtype),
        across.map((n) => n * n),
        1,
      );
    const divided: Tensor[] = [];
    for (const [level, n] of across.entries()) {
      const logits = reshape(adaptiveAvgPool2d(scores, n), [batch, n * n]);
      const added = given?.[level] ?? (drawn ? randGumbel(logits.shape, { dtype, device }) : undefined);
      const noisy = added ? add(logits, added) : logits;
      const above = divided.at(-1);
      const candidates = above ? within(noisy, above, tables[`parents${level}`]) : noisy;
      divided.push(chooseWindows(candidates, topK));
    }
    this.#show(scores, divided, shift);
    return divided.map((choice) => cast(choice, parameterDType(x.dtype)));
  }

  #show(scores: Tensor, divided: readonly Tensor[], shift: [number, number]): void {
    if (this.#watchers.size === 0) return;
    const { stage, blockInStage: block, semantics } = this.#options;
    const [, height, width] = scores.shape;
    scope(() => {
      const tensors = {
        scores: scores.detach(),
        choice: argmax(divided[0], 1),
        divided: divided.map((choice) => choice.detach()),
      };
      for (const watch of this.#watchers)
        watch({ stage, block, height, width, shift, semantics, ...tensors });
    });
  }

  /**
   * 'paper': a divided window keeps its places, so the scan reads the tokens where they lie. A level's choice moves tokens from
   * the places of its own level to those of the next, and gets the gradient of that.
   */
  #permuted(x: Tensor, divided: readonly Tensor[], tables: Tables): Tensor {
    const tokens = x.shape[1];
    const both = this.#order(divided, tables);
    const order = slice(both, 1, 0, tokens);
    const moves = divided.map((choice, level) => ({
      choice,
      places: {
        order,
        coarse: tables[`place${level}`],
        fine: tables[`place${level + 1}`],
        quadrant: tables[`window${level}`],
      },
    }));
    const arranged = moves.reduce((t, { choice, places }) => quadArrange(t, choice, places), x);
    const y = this.scan(arranged, reshape(both, [both.shape[0], 2, tokens]));
    return moves.reduce((t, { choice, places }) => quadRestore(t, choice, places), y);
  }

  /** Scan position -> token, forward and then reversed, [batch, 2 tokens]; [1, 2 tokens] if nothing is divided. */
  #order(divided: readonly Tensor[], tables: Tables): Tensor {
    if (this.#single) return indexSelect(tables.orders, 0, argmax(divided[0], 1));
    // where the windows above it are divided, a position belongs to one window of a level
    return divided.reduce(
      (order, choice, level) =>
        where(
          gt(indexSelect(choice.detach(), 1, tables[`reader${level}`]), 0),
          tables[`tokens${level + 1}`],
          order,
        ),
      tables.tokens0,
    );
  }

  /** 'released': some places receive two tokens and some none, so the sequence is built with masks, as that code does. */
  #masked(x: Tensor, choice: Tensor, tables: Tables): Tensor {
    const [batch, tokens] = x.shape;
    const { place0: coarse, place1: fine, window0, coarseTokens, fineTokens, both } = tables;
    const mask = reshape(indexSelect(cast(choice, x.dtype), 1, window0), [batch, tokens, 1]);
    const rest = sub(1, mask);
    const sequence = add(
      indexSelect(mul(x, mask), 1, fineTokens),
      indexSelect(mul(x, rest), 1, coarseTokens),
    );
    const y = this.scan(sequence, both);
    return add(mul(indexSelect(y, 1, fine), mask), mul(indexSelect(y, 1, coarse), rest));
  }

  #makeTables(height: number, width: number) {
    const { blockInStage, blockInModel, shiftDirections, semantics } = this.#options;
    const tree = this.#tree;
    const shift = windowShift(blockInStage, blockInModel, height, shiftDirections);
    const levels = quadPartition(height, width, shift, tree, semantics);
    const tokens = height * width;
    const tables: Record<string, Int32Array> = {};
    const shapes: Record<string, number[]> = {};
    levels.forEach(({ window, place }, level) => {
      tables[`place${level}`] = place;
      if (level === levels.length - 1) return; // its windows are not divided
      tables[`window${level}`] = window;
      if (level > 0) tables[`parents${level}`] = parents(tree, level);
    });
    if (this.#masks) {
      tables.coarseTokens = inverse(levels[0].place);
      tables.fineTokens = inverse(levels[1].place);
      tables.both = bothWays(Int32Array.from({ length: tokens }, (_, k) => k));
      shapes.both = [1, 2, tokens];
    } else if (this.#single) {
      tables.orders = quadOrders(levels, tree.grid ** 2);
      shapes.orders = [tree.grid ** 2, 2 * tokens];
    } else
      levels.forEach(({ window, place }, level) => {
        const sequence = inverse(place);
        tables[`tokens${level}`] = bothWays(sequence);
        shapes[`tokens${level}`] = [1, 2 * tokens];
        tables[`reader${level}`] = bothWays(sequence.map((token) => window[token]));
      });
    return { tables, shapes };
  }

  override dispose(): void {
    super.dispose();
    this.#tables.dispose();
  }
}
