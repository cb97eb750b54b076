import { packageVersion } from "../native/addon.js";
import { type QuadMambaConfig, resolveConfig, stageDims } from "../models/quadmamba/config.js";
import { QuadMamba } from "../models/quadmamba/model.js";
import { requireInteger, requireOptions } from "../util/check.js";
import { ArgumentError, ConfigError, show } from "../util/errors.js";
import { crossScan, quadScan } from "./cores.js";
import type { Value } from "./graph.js";
import {
  channelsFirst,
  channelsLast,
  conv3x3,
  gelu,
  layerNorm,
  linear,
  ModelGraph,
  reshape,
  silu,
  sum,
} from "./layers.js";

/** LayerNormalization is an operator since version 17; every version from there to the last is tested. */
export const OPSETS = { first: 17, last: 22 };
const MIN_SIZE = 8;

/** What is exported; of other keys of a configuration only the default is. */
const EXPORTED: readonly (keyof QuadMambaConfig)[] = [
  "dims",
  "depths",
  "ssmRatio",
  "stateSize",
  "dtRank",
  "convBias",
  "mlpRatio",
  "inChannels",
  "numClasses",
  "dropPathRate",
  "quadStages",
  "semantics",
  "postNorm",
];

export interface OnnxOptions {
  /** Size of the images in pixels, which the graph is made for; the batch is open. */
  height: number;
  width: number;
  /** Version of the operator set, 17 to 22. Default 17. */
  opset?: number;
  /** Makes the graph take pixels from 0 to 1, and normalise them itself: mean and deviation of each channel. */
  normalise?: { mean: readonly number[]; std: readonly number[] };
  /** Strings that the file carries along. */
  metadata?: Record<string, string>;
}

/**
 * A classifier as an ONNX file, in pieces: input `images` [batch, channels, height, width], output `logits` [batch, classes], both
 * float32. Standard operators only. A quad block takes the best quadrant, as in evaluation (of the released semantics too, which
 * would draw).
 * @throws {ArgumentError} {ConfigError} for a model without a classifier or of a configuration that cannot be exported
 */
export function exportOnnx(model: QuadMamba, options: OnnxOptions): readonly Uint8Array[] {
  const op = "exportOnnx";
  if (!(model instanceof QuadMamba))
    throw new ArgumentError(op, "can export a QuadMamba only", "a model", show(model));
  requireOptions(op, options ?? {}, ["height", "width", "opset", "normalise", "metadata"]);
  const { config } = model;
  const height = requireInteger(op, "height", options?.height, MIN_SIZE);
  const width = requireInteger(op, "width", options.width, MIN_SIZE);
  const opset = requireInteger(op, "opset", options.opset ?? OPSETS.first, OPSETS.first, OPSETS.last);
  requireExportable(config);
  const g = new ModelGraph(model);
  const images = options.normalise ? normalised(g, "images", options.normalise) : "images";
  body(g, images, config, height, width);
  return g.model(
    {
      inputs: [{ name: "images", shape: ["batch", config.inChannels, height, width] }],
      outputs: [{ name: "logits", shape: ["batch", config.numClasses] }],
    },
    opset,
    { name: "quadmamba", version: packageVersion() },
    options.metadata ?? {},
  );
}

function requireExportable(config: Readonly<QuadMambaConfig>): void {
  const op = "exportOnnx";
  if (config.numClasses === 0)
    throw new ConfigError(op, "the model has no classifier", "numClasses of at least 1");
  const usual = resolveConfig("lite");
  for (const key of Object.keys(config) as (keyof QuadMambaConfig)[])
    if (!EXPORTED.includes(key) && JSON.stringify(config[key]) !== JSON.stringify(usual[key]))
      throw new ConfigError(
        op,
        `models of this ${key} cannot be exported`,
        show(usual[key]),
        show(config[key]),
      );
}

function normalised(
  g: ModelGraph,
  images: Value,
  { mean, std }: { mean: readonly number[]; std: readonly number[] },
): Value {
  const constant = (name: string, values: readonly number[]): Value =>
    g.constant(name, () => ({ data: Float32Array.from(values), shape: [values.length, 1, 1] }));
  return g.node("Div", [g.node("Sub", [images, constant("mean", mean)]), constant("std", std)]);
}

/** From images, channels first, to `logits`. */
function body(
  g: ModelGraph,
  images: Value,
  config: Readonly<QuadMambaConfig>,
  height: number,
  width: number,
): void {
  const half = (n: number): number => Math.ceil(n / 2);
  const dims = stageDims(config);
  let size = { height: half(half(height)), width: half(half(width)) };
  let x = stem(g, images);
  let blockInModel = 0;
  config.depths.forEach((depth, stage) => {
    const quad = config.quadStages.includes(stage + 1);
    const map = { ...size, channels: dims[stage] * config.ssmRatio };
    for (let blockInStage = 0; blockInStage < depth; blockInStage++, blockInModel++) {
      const name = `layers.${stage}.blocks.${blockInStage}`;
      const core = (y: Value): Value =>
        quad
          ? quadScan(g, y, `${name}.op`, map, {
              semantics: config.semantics,
              blockInStage,
              blockInModel,
            })
          : crossScan(g, y, `${name}.op`, map);
      x = block(g, x, name, config.postNorm, map.channels, core);
    }
    if (stage === 3) return;
    const down = conv3x3(g, channelsFirst(g, x), `layers.${stage}.downsample.1`, { stride: 2 });
    x = layerNorm(g, channelsLast(g, down), `layers.${stage}.downsample.3`);
    size = { height: half(size.height), width: half(size.width) };
  });
  const tokens = size.height * size.width;
  const flat = reshape(g, layerNorm(g, x, "classifier.norm"), tokens, dims[3]);
  const mean = g.node("Mul", [sum(g, flat, 1), g.float(1 / tokens)]);
  g.rename("Identity", [linear(g, mean, "classifier.head")], ["logits"]);
}

function stem(g: ModelGraph, images: Value): Value {
  const first = conv3x3(g, images, "patch_embed.0", { stride: 2 });
  const tokens = gelu(g, layerNorm(g, channelsLast(g, first), "patch_embed.2"));
  const second = conv3x3(g, channelsFirst(g, tokens), "patch_embed.5", { stride: 2 });
  return layerNorm(g, channelsLast(g, second), "patch_embed.7");
}

/** x += SS2D(LN(x)); x += MLP(LN(x)); with postNorm the norm follows its branch. */
function block(
  g: ModelGraph,
  x: Value,
  name: string,
  postNorm: boolean,
  inner: number,
  core: (y: Value) => Value,
): Value {
  const branch = (x: Value, norm: string, fn: (y: Value) => Value): Value =>
    g.node("Add", [x, postNorm ? layerNorm(g, fn(x), norm) : fn(layerNorm(g, x, norm))]);
  const ss2d = (y: Value): Value => {
    const tokens = channelsFirst(g, linear(g, y, `${name}.op.in_proj`));
    const convolved = silu(g, channelsLast(g, conv3x3(g, tokens, `${name}.op.conv2d`, { groups: inner })));
    return linear(g, layerNorm(g, core(convolved), `${name}.op.out_norm`), `${name}.op.out_proj`);
  };
  const mlp = (y: Value): Value => linear(g, gelu(g, linear(g, y, `${name}.mlp.fc1`)), `${name}.mlp.fc2`);
  return branch(branch(x, `${name}.norm`, ss2d), `${name}.norm2`, mlp);
}
