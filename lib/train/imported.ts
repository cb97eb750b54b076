import { IMAGENET, type Preparation } from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { freshState, saveCheckpoint } from "./checkpoint.js";
import { resolveTrainConfig } from "./config.js";

/** How published weights of ImageNet were evaluated: 224 of 256 pixels, centre crop, bicubic. */
const CROP_SHARE = 0.875;

export interface ImportedFacts {
  /** Side of the square that images are cropped to, in pixels. */
  size: number;
  classes: readonly string[];
  /** What the training script saved beside the weights. */
  contents: unknown;
}

/**
 * Writes weights from elsewhere as a checkpoint that `eval`, `predict` and `export` take. Colour images are prepared as those of
 * ImageNet; of other channels pixels go from 0 to 1. There is no data set that evaluation could fall back to, and no optimiser.
 */
export function saveImported(
  path: string,
  model: QuadMamba,
  { size, classes, contents }: ImportedFacts,
): void {
  const { inChannels } = model.config;
  const flat = { mean: Array(inChannels).fill(0), std: Array(inChannels).fill(1) };
  const prepare: Preparation = {
    size,
    fit: "crop",
    cropShare: CROP_SHARE,
    interpolation: "bicubic",
    ...(inChannels === 3 ? IMAGENET : flat),
  };
  const percent = (...keys: string[]): number => {
    const found =
      contents instanceof Map ? keys.map((key) => contents.get(key)).find(Number.isFinite) : undefined;
    return (found ?? 0) / 100;
  };
  saveCheckpoint(
    path,
    { model },
    {
      config: resolveTrainConfig({ data: "none", model: { ...model.config }, imageSize: size }),
      prepare,
      image: { height: size, width: size },
      classes,
      state: {
        ...freshState(),
        bestAccuracy: percent("max_accuracy"),
        // The released script writes one spelling and reads the other.
        bestEmaAccuracy: percent("max_accuracy_ema", "max_accuray_ema"),
      },
    },
  );
}
