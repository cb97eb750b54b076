import type { BatchData } from "../data/index.js";
import { slice, tensor } from "../ops/index.js";
import { type Device, type Tensor, writeTypedArray } from "../tensor/tensor.js";

/** A batch where the model is. */
export interface DeviceBatch {
  /** [batch, height, width, channels] */
  images: Tensor;
  /** Class numbers, int32 [batch]. */
  labels: Tensor;
  /** Of mixed images: probabilities [batch, classes]. */
  targets: Tensor | null;
}

export function toDevice({ pixels, shape, labels, targets }: BatchData, device: Device): DeviceBatch {
  return {
    images: tensor(pixels, shape, { device }),
    labels: tensor(labels, { device }),
    targets: targets ? tensor(targets, [shape[0], targets.length / shape[0]], { device }) : null,
  };
}

/** Copies a batch over one of the same shapes. */
export function overwrite(batch: DeviceBatch, { pixels, labels, targets }: BatchData): void {
  writeTypedArray("train", batch.images, pixels);
  writeTypedArray("train", batch.labels, labels);
  if (batch.targets && targets) writeTypedArray("train", batch.targets, targets);
}

/** The samples from `begin` to below `end`. */
export function partOf({ images, labels, targets }: DeviceBatch, begin: number, end: number): DeviceBatch {
  const part = (t: Tensor): Tensor => slice(t, 0, begin, end);
  return { images: part(images), labels: part(labels), targets: targets && part(targets) };
}

export function keepBatch(batch: DeviceBatch): DeviceBatch {
  for (const t of Object.values<Tensor | null>({ ...batch })) t?.keep();
  return batch;
}

export function disposeBatch(batch: DeviceBatch | undefined): void {
  for (const t of Object.values<Tensor | null>({ ...batch })) t?.dispose();
}
