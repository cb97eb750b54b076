import type { QuadMamba } from "../models/quadmamba/model.js";
import { type Evaluation, evaluate, type TestImages } from "../train/evaluate.js";
import type { Placement } from "../train/placement.js";

/** Quadrants that a quad block chose, one for each image. */
export interface BlockChoices {
  /** 1 to 4. */
  stage: number;
  /** In its stage, from 0. */
  block: number;
  /** Of the map, in tokens. */
  height: number;
  width: number;
  /** Rows and columns by which the map was turned first. */
  shift: [number, number];
  /** Windows to choose from. */
  windows: number;
  choices: number[];
}

/** What a model makes of every test image. */
export interface Inspection {
  evaluation: Evaluation;
  /** Most probable class of each image, and its probability. */
  predicted: number[];
  confidence: number[];
  /** Of all quad blocks, in the model's order. */
  blocks: BlockChoices[];
}

export async function inspect(
  model: QuadMamba,
  images: TestImages,
  placement: Placement & { evalBatchSize: number },
): Promise<Inspection> {
  const classes = model.config.numClasses;
  const predicted: number[] = [];
  const confidence: number[] = [];
  const blocks = new Map<string, BlockChoices>();
  const unwatch = model.watchPartitions(({ stage, block, height, width, shift, choice, divided }) => {
    const windows = divided[0].shape[1];
    const key = `${stage} ${block}`;
    const seen = blocks.get(key) ?? { stage, block, height, width, shift, windows, choices: [] };
    seen.choices.push(...Array.from(choice.toTypedArray(), Number));
    blocks.set(key, seen);
  });
  try {
    const evaluation = await evaluate(model, images, placement, (logits) => {
      for (let k = 0; k < logits.length; k += classes) {
        const row = logits.subarray(k, k + classes);
        const best = row.reduce((most, value, index) => (value > row[most] ? index : most), 0);
        predicted.push(best);
        confidence.push(1 / row.reduce((sum, value) => sum + Math.exp(value - row[best]), 0));
      }
    });
    return { evaluation, predicted, confidence, blocks: [...blocks.values()] };
  } finally {
    unwatch();
  }
}
