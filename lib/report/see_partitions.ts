import { noGrad } from "../autograd/mode.js";
import type { BatchData } from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { tensor } from "../ops/index.js";
import { scope } from "../tensor/scope.js";
import { enterEvaluation } from "../train/evaluate.js";
import { inPrecision, type Placement } from "../train/placement.js";
import { type PartitionMap, partitionMap } from "./partition_map.js";

/** What every quad block, in the model's order, does with each image of a batch; everything random is off. */
export function seePartitions(
  model: QuadMamba,
  { pixels, shape }: BatchData,
  { device, precision }: Placement,
): PartitionMap[][] {
  const maps: PartitionMap[][] = Array.from({ length: shape[0] }, () => []);
  const unwatch = model.watchPartitions((seen) => {
    for (const [sample, own] of maps.entries()) own.push(partitionMap(seen, sample));
  });
  const leave = enterEvaluation(model);
  try {
    scope(() => noGrad(() => model.forward(inPrecision(tensor(pixels, shape, { device }), precision))));
  } finally {
    leave();
    unwatch();
  }
  return maps;
}
