import type { QuadMamba } from "../models/quadmamba/model.js";
import { AdamW, type AdamWOptions, type ParameterGroup } from "../optim/index.js";
import type { Tensor } from "../tensor/tensor.js";
import type { TrainConfig } from "./config.js";

/** AdamW whose groups have learning rates of their own, in fixed proportions. */
class LayerwiseAdamW extends AdamW {
  readonly #scales: number[];

  constructor(groups: ParameterGroup<AdamWOptions>[], scales: number[], options: Partial<AdamWOptions>) {
    super(groups, options);
    this.#scales = scales;
  }

  override set lr(value: number) {
    this.groups.forEach(({ options }, k) => {
      options.lr = value * this.#scales[k];
    });
  }
}

/**
 * The recipe's AdamW. No decay for one-dimensional parameters (norms, biases, D), the biases of dt, and, unless asked for, A_logs.
 * The learning rate of a parameter is `layerDecay` to the power of the layers above it, of the schedule's.
 */
export function makeOptimizer(model: QuadMamba, config: TrainConfig): AdamW {
  const { lr, betas, weightDecay, decayALogs, layerDecay } = config;
  const groups = new Map<string, { params: Tensor[]; weightDecay: number; scale: number }>();
  const depths = model.layers.map(({ blocks }) => blocks.length);
  for (const [name, t] of model.namedParameters()) {
    const decays = t.rank > 1 && !name.endsWith("bias") && (decayALogs || !name.endsWith("A_logs"));
    const scale = layerDecay ** layersAbove(name, depths);
    const key = `${scale} ${decays}`;
    const group = groups.get(key) ?? { params: [], weightDecay: decays ? weightDecay : 0, scale };
    groups.set(key, group);
    group.params.push(t);
  }
  const list = [...groups.values()];
  return new LayerwiseAdamW(
    list.map(({ params, weightDecay }) => ({ params, weightDecay })),
    list.map(({ scale }) => scale),
    { lr, betas },
  );
}

/** Layers above a parameter: each block is one, with the downsampling behind it; below them lies the stem, above them the classifier. */
function layersAbove(name: string, depths: readonly number[]): number {
  const below = (stage: number) => depths.slice(0, stage).reduce((a, b) => a + b, 0);
  const [part, stage, kind, block] = name.split(".");
  if (part === "patch_embed") return below(depths.length) + 1;
  if (part !== "layers") return 0;
  const index = kind === "blocks" ? Number(block) : depths[Number(stage)] - 1;
  return below(depths.length) - below(Number(stage)) - index;
}
