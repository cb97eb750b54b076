import { checkpoint } from "../../autograd/checkpoint.js";
import { Conv2d, LayerNorm, type Linear, Module, Sequential } from "../../nn/index.js";
import { cast, gelu, layerNorm, mean } from "../../ops/index.js";
import { countMacs } from "../../ops/profile.js";
import { scope } from "../../tensor/scope.js";
import { requireTensor, type Tensor } from "../../tensor/tensor.js";
import { requireFunction, requireOptions } from "../../util/check.js";
import { ArgumentError, ConfigError, ShapeError, show } from "../../util/errors.js";
import { Block } from "./block.js";
import { type QuadMambaConfig, resolveConfig, stageDims, stageWindows, type Variant } from "./config.js";
import { dense } from "./initial.js";
import { type PartitionSeen, QuadScan } from "./quad_scan.js";
import { CrossScan } from "./ss2d.js";

const MIN_SIZE = 8;

export interface ForwardOptions {
  /**
   * Added to the logits of the windows instead of drawn noise: one tensor for each quad block that draws, in order, [batch, 4];
   * of other trees than the paper's [batch, windows that can be divided], level after level.
   */
  partitionNoise?: readonly Tensor[];
}

/** Blocks of one stage, and the way down to the next. */
class Stage extends Module {
  blocks: Block[];
  downsample: Sequential | null;
  checkpointing = false;
  constructor(blocks: Block[], downsample: Sequential | null) {
    super();
    this.blocks = blocks;
    this.downsample = downsample;
  }
  forward(x: Tensor, noiseOf: (block: Block) => Tensor | undefined): Tensor {
    return this.blocks.reduce((input, block) => {
      const run = (y: Tensor) => block.forward(y, noiseOf(block));
      // A scope per block: what backward does not need is freed before the next one begins.
      return scope(() => (this.checkpointing ? checkpoint(run, input) : run(input)));
    }, x);
  }
}

/** LayerNorm, mean over the map, Linear. */
class Classifier extends Module {
  norm: LayerNorm;
  head: Linear;
  constructor(channels: number, classes: number) {
    super();
    this.norm = new LayerNorm(channels);
    this.head = dense(channels, classes);
  }
  forward(x: Tensor): Tensor {
    countMacs(x.size);
    return this.head.forward(mean(this.norm.forward(x), [1, 2]));
  }
}

/**
 * QuadMamba (Xie et al., NeurIPS 2024): a vision Mamba whose scan order is a learned quadtree. Names and shapes of its state
 * dict are those of the published checkpoints.
 */
export class QuadMamba extends Module {
  patch_embed: Stem;
  layers: Stage[];
  classifier: Classifier | null;
  outnorm0: LayerNorm | null = null;
  outnorm1: LayerNorm | null = null;
  outnorm2: LayerNorm | null = null;
  outnorm3: LayerNorm | null = null;
  readonly #config: QuadMambaConfig;

  /** @throws {ConfigError} for an unknown key or a value out of range */
  constructor(variantOrConfig: Variant | (Partial<QuadMambaConfig> & { variant?: Variant })) {
    super();
    const config = resolveConfig(variantOrConfig);
    this.#config = config;
    const dims = stageDims(config);
    this.patch_embed = new Stem(config.inChannels, dims[0]);
    const total = config.depths.reduce((a, b) => a + b, 0);
    let blockInModel = 0;
    this.layers = config.depths.map((depth, stage) => {
      const blocks = Array.from({ length: depth }, (_, blockInStage) => {
        const dropPath = total > 1 ? (config.dropPathRate * blockInModel) / (total - 1) : 0;
        return makeBlock(config, dims[stage], stage + 1, blockInStage, blockInModel++, dropPath);
      });
      return new Stage(blocks, stage < 3 ? downsample(dims[stage], dims[stage + 1]) : null);
    });
    this.classifier = config.numClasses > 0 ? new Classifier(dims[3], config.numClasses) : null;
    if (!this.classifier)
      [this.outnorm0, this.outnorm1, this.outnorm2, this.outnorm3] = dims.map((d) => new LayerNorm(d));
  }

  get config(): Readonly<QuadMambaConfig> {
    return this.#config;
  }

  /** Whether blocks compute their activations again in backward instead of keeping them: memory for time, the same results. */
  set checkpointing(on: boolean) {
    for (const layer of this.layers) layer.checkpointing = on;
  }

  /** Blocks that scan along the quadtree, in order. */
  get quadBlocks(): Block[] {
    return this.layers.flatMap((layer) => layer.blocks).filter((block) => block.op instanceof QuadScan);
  }

  /**
   * Class logits [batch, classes].
   * @param images [batch, height, width, inChannels] of any height and width from 8 up
   */
  forward(images: Tensor, options: ForwardOptions = {}): Tensor {
    const { classifier } = this;
    if (!classifier)
      throw new ConfigError("QuadMamba.forward", "the model has no classifier", "numClasses of at least 1");
    return scope(() => {
      let logits: Tensor | undefined;
      this.#run("QuadMamba.forward", images, options, (stage, map) => {
        if (stage === 3) logits = classifier.forward(map);
      });
      return logits as Tensor;
    });
  }

  /**
   * The maps of the four stages before their downsampling, each normalised, at strides 4, 8, 16 and 32:
   * [batch, height / stride, width / stride, channels]. A model made with numClasses 0 has learned norms for them.
   */
  forwardFeatures(images: Tensor, options: ForwardOptions = {}): Tensor[] {
    return scope(() => {
      const maps: Tensor[] = [];
      const norms = [this.outnorm0, this.outnorm1, this.outnorm2, this.outnorm3];
      this.#run("QuadMamba.forwardFeatures", images, options, (stage, map) => {
        const norm = norms[stage];
        maps.push(norm ? norm.forward(map) : layerNorm(map));
      });
      return maps;
    });
  }

  /**
   * Shows what the quad blocks choose: `watch` is called once for each quad block and forward, in order. Not within a recorded
   * graph, whose replays call nothing; a block that is computed again in backward (`checkpoint`) is shown again.
   * @returns a function that ends the watching
   */
  watchPartitions(watch: (seen: PartitionSeen) => void): () => void {
    requireFunction("watchPartitions", "watch", watch);
    const ends = this.quadBlocks.map(({ op }) => (op as QuadScan).watch(watch));
    return () => {
      for (const end of ends) end();
    };
  }

  #run(
    op: string,
    images: Tensor,
    options: ForwardOptions,
    visit: (stage: number, map: Tensor) => void,
  ): void {
    requireTensor(op, "images", images);
    requireOptions(op, options, ["partitionNoise"]);
    const { inChannels } = this.#config;
    const [, height, width, channels] = images.shape;
    if (images.rank !== 4 || channels !== inChannels || height < MIN_SIZE || width < MIN_SIZE)
      throw new ShapeError(
        op,
        "images do not fit",
        `[batch, height, width, ${inChannels}] of at least 8 x 8 pixels`,
        show(images.shape),
      );
    const noiseOf = this.#noise(op, images.shape[0], options.partitionNoise);
    let x = this.patch_embed.forward(images);
    this.layers.forEach((layer, stage) => {
      const map = layer.forward(x, noiseOf);
      visit(stage, map);
      if (layer.downsample) x = layer.downsample.forward(map);
    });
  }

  #noise(
    op: string,
    batch: number,
    noise: readonly Tensor[] | undefined,
  ): (block: Block) => Tensor | undefined {
    if (noise === undefined) return () => undefined;
    const blocks = this.quadBlocks.filter((block) => (block.op as QuadScan).draws > 0);
    if (!Array.isArray(noise) || noise.length !== blocks.length)
      throw new ArgumentError(
        op,
        "partitionNoise is not valid",
        `${blocks.length} tensors, one for each quad block that draws`,
        show(noise),
      );
    blocks.forEach((block, k) => {
      requireTensor(op, "partitionNoise", noise[k]);
      const shape = [batch, (block.op as QuadScan).draws];
      if (show(noise[k].shape) !== show(shape))
        throw new ShapeError(op, "partitionNoise has the wrong shape", show(shape), show(noise[k].shape));
    });
    return (block) => noise[blocks.indexOf(block)];
  }
}

/**
 * Two convolutions of stride 2, each with a norm, from pixels to tokens of a quarter of the size. The parts have their published
 * names.
 *
 * The first convolution and its norm run in float64: the norm divides by the spread of few channels, and what it makes of
 * float32 rounding reaches every gradient of the predictors (measured on a golden: 1.7e-4 of the smallest, 5e-5 with this).
 */
class Stem extends Module {
  "0": Conv2d;
  "2": LayerNorm;
  "5": Conv2d;
  "7": LayerNorm;
  constructor(inChannels: number, channels: number) {
    super();
    this[0] = new Conv2d(inChannels, channels / 2, 3, {
      stride: 2,
      padding: 1,
    });
    this[2] = new LayerNorm(channels / 2);
    this[5] = new Conv2d(channels / 2, channels, 3, { stride: 2, padding: 1 });
    this[7] = new LayerNorm(channels);
  }
  forward(images: Tensor): Tensor {
    const precise = images.dtype === "bfloat16" ? images : cast(images, "float64");
    const half = cast(this[2].forward(this[0].forward(precise)), images.dtype);
    return this[7].forward(this[5].forward(gelu(half)));
  }
}

/** A convolution of stride 2 and a norm. Named as published: 1 and 3. */
function downsample(from: number, to: number): Sequential {
  return new Sequential(
    identity,
    new Conv2d(from, to, 3, { stride: 2, padding: 1 }),
    identity,
    new LayerNorm(to),
  );
}

function identity(x: Tensor): Tensor {
  return x;
}

function makeBlock(
  config: QuadMambaConfig,
  channels: number,
  stage: number,
  blockInStage: number,
  blockInModel: number,
  dropPath: number,
): Block {
  const { stateSize, convBias, mlpRatio, postNorm } = config;
  const scan = {
    channels,
    innerChannels: channels * config.ssmRatio,
    stateSize,
    dtRank: config.dtRank === "auto" ? Math.ceil(channels / 16) : config.dtRank,
    convBias,
  };
  const op = config.quadStages.includes(stage)
    ? new QuadScan({ ...config, ...scan, stage, blockInStage, blockInModel })
    : new CrossScan({ ...scan, fixedWindow: stageWindows(config)[stage - 1] });
  return new Block(op, { channels, mlpRatio, dropPath, postNorm });
}

/**
 * A QuadMamba with fresh weights, drawn from the seed of `manualSeed`.
 * @param variantOrConfig `nano`, `lite`, `tiny`, `small`, `base`, or the keys that differ from `lite` (or from `variant`)
 * @throws {ConfigError} for an unknown name or a value out of range
 */
export function createQuadMamba(
  variantOrConfig: Variant | (Partial<QuadMambaConfig> & { variant?: Variant }),
): QuadMamba {
  return new QuadMamba(variantOrConfig);
}
