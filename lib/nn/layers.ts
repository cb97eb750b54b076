import { cast, conv2d, depthwiseSilu, dropout, gelu, geluLinear, layerNorm, linear } from "../ops/index.js";
import { parameterDType } from "../tensor/dtype.js";
import type { Tensor } from "../tensor/tensor.js";
import { requireInteger, requireNumber, requireOptions } from "../util/check.js";
import { ArgumentError } from "../util/errors.js";
import { fanIn, type Initializer, ones, zeros } from "./init.js";
import { Module, parameter } from "./module.js";

/**
 * A parameter in the dtype that goes with its input: layers compute in the precision of what they are given. Beside bfloat16
 * parameters stay float32.
 */
function inDTypeOf<P extends Tensor | null>(x: Tensor, param: P): P {
  return (param && cast(param, parameterDType(x.dtype))) as P;
}

export interface LinearOptions {
  /** Default true. */
  bias?: boolean;
  /** Defaults: uniform with bound 1 / sqrt(in) for both. */
  initWeight?: Initializer;
  initBias?: Initializer;
}

/** y = x weight^T + bias; x [.., in], weight [out, in]. */
export class Linear extends Module {
  weight: Tensor;
  bias: Tensor | null;

  constructor(inFeatures: number, outFeatures: number, options: LinearOptions = {}) {
    super();
    requireInteger("Linear", "inFeatures", inFeatures, 1);
    requireInteger("Linear", "outFeatures", outFeatures, 1);
    requireOptions("Linear", options, ["bias", "initWeight", "initBias"]);
    const usual = fanIn(inFeatures);
    this.weight = parameter((options.initWeight ?? usual)([outFeatures, inFeatures]));
    this.bias = (options.bias ?? true) ? parameter((options.initBias ?? usual)([outFeatures])) : null;
  }
  forward(x: Tensor): Tensor {
    return linear(x, inDTypeOf(x, this.weight), inDTypeOf(x, this.bias));
  }
}

/** y = gelu(x) weight^T + bias: the second half of an MLP, which keeps its input alone for backward. */
export class GeluLinear extends Linear {
  override forward(x: Tensor): Tensor {
    return geluLinear(x, inDTypeOf(x, this.weight), inDTypeOf(x, this.bias));
  }
}

export interface Conv2dLayerOptions {
  stride?: number | [number, number];
  padding?: number | [number, number];
  dilation?: number | [number, number];
  groups?: number;
  /** Default true. */
  bias?: boolean;
}

/** 2-D convolution of images [batch, height, width, in]; weight [out, in / groups, rows, columns]. */
export class Conv2d extends Module {
  weight: Tensor;
  bias: Tensor | null;
  readonly #options: Omit<Conv2dLayerOptions, "bias">;

  constructor(
    inChannels: number,
    outChannels: number,
    kernel: number | [number, number],
    options: Conv2dLayerOptions = {},
  ) {
    super();
    requireInteger("Conv2d", "inChannels", inChannels, 1);
    requireInteger("Conv2d", "outChannels", outChannels, 1);
    requireOptions("Conv2d", options, ["stride", "padding", "dilation", "groups", "bias"]);
    const [rows, columns] = (Array.isArray(kernel) ? kernel : [kernel, kernel]).map((k) =>
      requireInteger("Conv2d", "kernel", k, 1),
    );
    const { bias = true, ...geometry } = options;
    const groups = requireInteger("Conv2d", "groups", geometry.groups ?? 1, 1);
    if (inChannels % groups !== 0)
      throw new ArgumentError(
        "Conv2d",
        "groups do not divide the channels",
        `a divisor of ${inChannels}`,
        `${groups}`,
      );
    const perGroup = inChannels / groups;
    const init = fanIn(perGroup * rows * columns);
    this.weight = parameter(init([outChannels, perGroup, rows, columns]));
    this.bias = bias ? parameter(init([outChannels])) : null;
    this.#options = geometry;
  }
  forward(x: Tensor): Tensor {
    return conv2d(x, inDTypeOf(x, this.weight), inDTypeOf(x, this.bias), this.#options);
  }
}

/** silu of a depthwise 3x3 convolution, in one pass; weight [channels, 1, 3, 3]. */
export class DepthwiseSilu extends Conv2d {
  constructor(channels: number, options: { bias?: boolean } = {}) {
    super(channels, channels, 3, { padding: 1, groups: channels, ...options });
  }
  override forward(x: Tensor): Tensor {
    return depthwiseSilu(x, inDTypeOf(x, this.weight), inDTypeOf(x, this.bias));
  }
}

/** Layer norm over the last axis, with weight (1) and bias (0). */
export class LayerNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  readonly #eps: number;

  constructor(channels: number, options: { eps?: number } = {}) {
    super();
    requireInteger("LayerNorm", "channels", channels, 1);
    requireOptions("LayerNorm", options, ["eps"]);
    this.#eps = requireNumber("LayerNorm", "eps", options.eps ?? 1e-5, 0);
    this.weight = parameter(ones([channels]));
    this.bias = parameter(zeros([channels]));
  }
  forward(x: Tensor): Tensor {
    return layerNorm(x, inDTypeOf(x, this.weight), inDTypeOf(x, this.bias), {
      eps: this.#eps,
    });
  }
}

/** The exact (erf) GELU as a module. */
export class GELU extends Module {
  forward(x: Tensor): Tensor {
    return gelu(x);
  }
}

/** Dropout while training. */
export class Dropout extends Module {
  readonly #probability: number;
  constructor(probability: number) {
    super();
    this.#probability = requireNumber("Dropout", "probability", probability, 0, 1);
  }
  forward(x: Tensor): Tensor {
    return dropout(x, this.#probability, { training: this.training });
  }
}

/** A function of one tensor as a module without tensors. */
class Lambda extends Module {
  readonly #fn: (x: Tensor) => Tensor;
  constructor(fn: (x: Tensor) => Tensor) {
    super();
    this.#fn = fn;
  }
  forward(x: Tensor): Tensor {
    return this.#fn(x);
  }
}

/** Modules and functions, one after the other. Named by their place: `0`, `1`, ... */
export class Sequential extends Module {
  readonly #steps: (Module & { forward(x: Tensor): Tensor })[];

  constructor(...steps: ((Module & { forward(x: Tensor): Tensor }) | ((x: Tensor) => Tensor))[]) {
    super();
    this.#steps = steps.map((step) => (step instanceof Module ? step : new Lambda(step)));
  }
  override *children(): Generator<[string, Module | Tensor]> {
    for (let k = 0; k < this.#steps.length; k++) yield [String(k), this.#steps[k]];
  }
  forward(x: Tensor): Tensor {
    return this.#steps.reduce((y, step) => step.forward(y), x);
  }
}
