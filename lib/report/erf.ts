/** Effective receptive field (Luo et al. 2016, "Understanding the effective receptive field in deep CNNs"; the paper's Fig. 11). */
import { grad } from "../autograd/backward.js";
import type { BatchData } from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { slice, sum, tensor } from "../ops/index.js";
import { scope } from "../tensor/scope.js";
import type { Device, Tensor } from "../tensor/tensor.js";
import { enterEvaluation } from "../train/evaluate.js";
import { ArgumentError } from "../util/errors.js";

export interface Field {
  height: number;
  width: number;
  /** Of each pixel, row by row: its share of all influence; together 1. */
  shares: Float64Array;
  /** The pixel on which the centre token's convolutions are centred. */
  centre: [row: number, column: number];
}

/**
 * Influence of each pixel on the centre token of the last stage's map: the absolute gradient of the sum of its channels, summed
 * over the pixel's channels, averaged over images. The map is taken before any norm: the channels of a normalised one always sum
 * to the same. Everything random is off; the gradient is that of training, with the straight-through part of the quadrants' choice.
 * @param batches images of one size
 */
export async function effectiveReceptiveField(
  model: QuadMamba,
  batches: AsyncIterable<BatchData> | Iterable<BatchData>,
  device: Device,
): Promise<Field> {
  const leave = enterEvaluation(model);
  try {
    return await fieldOf(lastMap(model), batches, device);
  } finally {
    leave();
  }
}

/** The map of the last stage, before the classifier's norm. */
function lastMap(model: QuadMamba): (images: Tensor) => Tensor {
  return (images) =>
    model.layers.reduce((x, stage) => {
      const map = stage.forward(x, () => undefined);
      return stage.downsample ? stage.downsample.forward(map) : map;
    }, model.patch_embed.forward(images));
}

/** The same of any function from images to a map, both [batch, height, width, channels]. */
export async function fieldOf(
  toMap: (images: Tensor) => Tensor,
  batches: AsyncIterable<BatchData> | Iterable<BatchData>,
  device: Device,
): Promise<Field> {
  let field: Field | undefined;
  for await (const batch of batches) {
    const [, height, width] = batch.shape;
    const { influence, centre } = scope(() => influenceOf(toMap, batch, device));
    field ??= { height, width, shares: new Float64Array(height * width), centre };
    addTo(field.shares, influence, batch.shape);
  }
  if (!field) throw new ArgumentError("effectiveReceptiveField", "there are no images", "at least one batch");
  const total = field.shares.reduce((a, b) => a + b, 0);
  return { ...field, shares: field.shares.map((value) => (total > 0 ? value / total : 0)) };
}

function influenceOf(toMap: (images: Tensor) => Tensor, { pixels, shape }: BatchData, device: Device) {
  const images = tensor(pixels, shape, { device, requiresGrad: true });
  const map = toMap(images);
  const [row, column] = [Math.floor(map.shape[1] / 2), Math.floor(map.shape[2] / 2)];
  const token = slice(slice(map, 1, row, row + 1), 2, column, column + 1);
  const influence = grad(sum(token), [images])[0] as Tensor;
  const centre: [number, number] = [
    row * Math.round(shape[1] / map.shape[1]),
    column * Math.round(shape[2] / map.shape[2]),
  ];
  return { influence: influence.toTypedArray() as Float32Array, centre };
}

function addTo(
  shares: Float64Array,
  influence: Float32Array,
  [batch, height, width, channels]: readonly number[],
): void {
  const perImage = height * width * channels;
  for (let sample = 0; sample < batch; sample++)
    for (let k = 0; k < perImage; k++)
      shares[Math.floor(k / channels)] += Math.abs(influence[sample * perImage + k]);
}

/** Share of the influence of pixels at most `radius` pixels from the centre. */
export function withinRadius({ height, width, shares, centre }: Field, radius: number): number {
  let total = 0;
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++)
      if (Math.hypot(row - centre[0], column - centre[1]) <= radius) total += shares[row * width + column];
  return total;
}

/** Share of all pixels that the strongest ones are which together have the given share of the influence. */
export function areaOf({ shares }: Field, share: number): number {
  const sorted = shares.toSorted((a, b) => b - a);
  let [total, count] = [0, 0];
  while (count < sorted.length && total < share) total += sorted[count++];
  return count / sorted.length;
}
