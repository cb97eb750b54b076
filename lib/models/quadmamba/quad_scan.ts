import {
  adaptiveAvgPool2d,
  add,
  argmax,
  cast,
  gumbelSoftmax,
  indexSelect,
  mul,
  pad,
  quadArrange,
  quadRestore,
  reshape,
  slice,
  sub,
} from "../../ops/index.js";
import { countMacs } from "../../ops/profile.js";
import { parameterDType } from "../../tensor/dtype.js";
import { scope } from "../../tensor/scope.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Semantics } from "./config.js";
import { inverse, paddedSize, QUADRANTS, quadOrders, quadPartition, windowShift } from "./partition.js";
import { ScorePredictor } from "./score_predictor.js";
import { SS2D, type SS2DOptions } from "./ss2d.js";
import { TableCache } from "./tables.js";

export interface QuadScanOptions extends SS2DOptions {
  semantics: Semantics;
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
  /** Of the map, padded to halve twice. */
  height: number;
  width: number;
  /** By how many rows and columns the map was turned before it was partitioned. */
  shift: [number, number];
  semantics: Semantics;
  /** What the block averages over quadrants, [batch, height, width, 1]: in 'paper' semantics shifted with the map. */
  scores: Tensor;
  /** The quadrant that is read finely, int64 [batch]: of the shifted map, 0 top left, 1 top right, 2 bottom left, 3 bottom right. */
  choice: Tensor;
}

/**
 * The quad block's core: a predictor scores the map, the quadrant with the best (training: sampled) score is read finely, and
 * the sequence is scanned forward and back. Maps that do not halve twice are zero-padded at the bottom and the right.
 */
export class QuadScan extends SS2D {
  score_predictor: ScorePredictor;
  readonly #options: QuadScanOptions;
  readonly #tables = new TableCache((height, width) => this.#makeTables(height, width));
  readonly #watchers = new Set<(seen: PartitionSeen) => void>();

  constructor(options: QuadScanOptions) {
    super(2, options);
    this.score_predictor = new ScorePredictor(options.innerChannels, options.semantics);
    this.#options = options;
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
    const [fullHeight, fullWidth] = [paddedSize(height), paddedSize(width)];
    const padded = fullHeight !== height || fullWidth !== width;
    const full = padded
      ? pad(x, [
          [0, 0],
          [0, fullHeight - height],
          [0, fullWidth - width],
          [0, 0],
        ])
      : x;
    const choice = this.#choose(full, noise);
    const tokens = reshape(full, [batch, fullHeight * fullWidth, inner]);
    const scanned =
      this.#options.semantics === "paper"
        ? this.#permuted(tokens, choice, fullHeight, fullWidth)
        : this.#masked(tokens, choice, fullHeight, fullWidth);
    const y = reshape(scanned, full.shape);
    return padded ? slice(slice(y, 1, 0, height), 2, 0, width) : y;
  }

  /** One-hot choice of a quadrant, [batch, 4], straight-through. */
  #choose(x: Tensor, noise?: Tensor): Tensor {
    const { semantics, blockInStage, blockInModel } = this.#options;
    const [batch, height, width] = x.shape;
    const shift = windowShift(blockInStage, blockInModel, height);
    const scores = this.score_predictor.forward(x, shift);
    const logits = reshape(adaptiveAvgPool2d(scores, 2), [batch, QUADRANTS]);
    countMacs(2 * batch * height * width); // pooling, and the mask over tokens
    const drawn = this.training || semantics === "released";
    const given = noise && cast(noise, logits.dtype);
    const choice = gumbelSoftmax(logits, { hard: true, noise: given ?? (drawn ? undefined : null) });
    this.#show(scores, choice, shift);
    return cast(choice, parameterDType(x.dtype));
  }

  #show(scores: Tensor, choice: Tensor, shift: [number, number]): void {
    if (this.#watchers.size === 0) return;
    const { stage, blockInStage: block, semantics } = this.#options;
    const [, height, width] = scores.shape;
    scope(() => {
      const seen = { stage, block, height, width, shift, semantics, scores: scores.detach() };
      const quadrants = argmax(choice, 1);
      for (const watch of this.#watchers) watch({ ...seen, choice: quadrants });
    });
  }

  /** 'paper': fine and coarse places are a permutation, so the scan reads the tokens where they lie. */
  #permuted(x: Tensor, choice: Tensor, height: number, width: number): Tensor {
    const [batch, tokens] = x.shape;
    const { orders, forward, fine, coarse, quadrant } = this.#tables.get(height, width, x.device);
    const index = argmax(choice, 1);
    const places = {
      order: indexSelect(forward, 0, index),
      fine,
      coarse,
      quadrant,
    };
    const order = reshape(indexSelect(orders, 0, index), [batch, 2, tokens]);
    return quadRestore(this.scan(quadArrange(x, choice, places), order), choice, places);
  }

  /** 'released': some places receive two tokens and some none, so the sequence is built with masks, as that code does. */
  #masked(x: Tensor, choice: Tensor, height: number, width: number): Tensor {
    const [batch, tokens] = x.shape;
    const tables = this.#tables.get(height, width, x.device);
    const { both, fine, coarse, fineTokens, coarseTokens, quadrant } = tables;
    const mask = reshape(indexSelect(cast(choice, x.dtype), 1, quadrant), [batch, tokens, 1]);
    const rest = sub(1, mask);
    const sequence = add(
      indexSelect(mul(x, mask), 1, fineTokens),
      indexSelect(mul(x, rest), 1, coarseTokens),
    );
    const y = this.scan(sequence, both);
    return add(mul(indexSelect(y, 1, fine), mask), mul(indexSelect(y, 1, coarse), rest));
  }

  #makeTables(height: number, width: number) {
    const { blockInStage, blockInModel, semantics } = this.#options;
    const partition = quadPartition(
      height,
      width,
      windowShift(blockInStage, blockInModel, height),
      semantics,
    );
    const { tokens, quadrant, coarse, fine } = partition;
    const orders = quadOrders(partition);
    const places = Int32Array.from({ length: tokens }, (_, k) => k);
    return {
      tables: {
        quadrant,
        coarse,
        fine,
        coarseTokens: inverse(coarse),
        fineTokens: inverse(fine),
        orders,
        forward: Int32Array.from(
          { length: QUADRANTS * tokens },
          (_, k) => orders[2 * Math.floor(k / tokens) * tokens + (k % tokens)],
        ),
        both: Int32Array.from([...places, ...places.toReversed()]),
      },
      shapes: {
        orders: [QUADRANTS, 2 * tokens],
        forward: [QUADRANTS, tokens],
        both: [1, 2, tokens],
      },
    };
  }

  override dispose(): void {
    super.dispose();
    this.#tables.dispose();
  }
}
