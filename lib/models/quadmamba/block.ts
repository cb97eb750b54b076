import { type GeluLinear, LayerNorm, type Linear, Module } from "../../nn/index.js";
import { add, dropPath } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";
import { dense, geluDense } from "./initial.js";
import type { SS2D } from "./ss2d.js";

/** Linear, exact GELU, Linear. */
export class Mlp extends Module {
  fc1: Linear;
  fc2: GeluLinear;
  constructor(channels: number, hidden: number) {
    super();
    this.fc1 = dense(channels, hidden);
    this.fc2 = geluDense(hidden, channels);
  }
  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.fc1.forward(x));
  }
}

export interface BlockOptions {
  channels: number;
  mlpRatio: number;
  dropPath: number;
  postNorm: boolean;
}

/** x += dropPath(op(LN(x))); x += dropPath(MLP(LN(x))). With postNorm the norm follows the branch instead. */
export class Block extends Module {
  norm: LayerNorm;
  op: SS2D;
  norm2: LayerNorm;
  mlp: Mlp;
  readonly #options: BlockOptions;

  constructor(op: SS2D, options: BlockOptions) {
    super();
    this.norm = new LayerNorm(options.channels);
    this.op = op;
    this.norm2 = new LayerNorm(options.channels);
    this.mlp = new Mlp(options.channels, Math.trunc(options.channels * options.mlpRatio));
    this.#options = options;
  }

  /** @param noise for a quad block's choice, [batch, 4] */
  forward(x: Tensor, noise?: Tensor): Tensor {
    const after = this.#branch(x, this.norm, (y) => this.op.forward(y, noise));
    return this.#branch(after, this.norm2, (y) => this.mlp.forward(y));
  }

  #branch(x: Tensor, norm: LayerNorm, fn: (y: Tensor) => Tensor): Tensor {
    const y = this.#options.postNorm ? norm.forward(fn(x)) : fn(norm.forward(x));
    return add(x, dropPath(y, this.#options.dropPath, { training: this.training }));
  }
}
