import { DepthwiseSilu, init, LayerNorm, type Linear, Module, parameter } from "../../nn/index.js";
import { exp, linear, neg, projectedScan, reshape } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";
import { dense, stateRates, stepBias } from "./initial.js";
import { crossOrders } from "./partition.js";
import { TableCache } from "./tables.js";

export interface SS2DOptions {
  channels: number;
  innerChannels: number;
  stateSize: number;
  dtRank: number;
  convBias: boolean;
}

/**
 * The token operator of both kinds of block: in_proj, depthwise 3x3 and SiLU, a scan core, LayerNorm, out_proj. Property names
 * are those of the published state dict.
 *
 * The projections to dt, B and C act on each token alone, so they are computed once, row by row, and the scan that reads
 * through an index needs no copy of the sequence for any direction or window.
 */
export abstract class SS2D extends Module {
  x_proj_weight: Tensor;
  dt_projs_weight: Tensor;
  dt_projs_bias: Tensor;
  A_logs: Tensor;
  Ds: Tensor;
  out_norm: LayerNorm;
  in_proj: Linear;
  conv2d: DepthwiseSilu;
  out_proj: Linear;

  constructor(directions: number, { channels, innerChannels, stateSize, dtRank, convBias }: SS2DOptions) {
    super();
    const rows = dtRank + 2 * stateSize;
    this.x_proj_weight = parameter(init.fanIn(innerChannels)([directions, rows, innerChannels]));
    this.dt_projs_weight = parameter(init.uniform(dtRank ** -0.5)([directions, innerChannels, dtRank]));
    this.dt_projs_bias = stepBias(directions, innerChannels);
    this.A_logs = stateRates(directions * innerChannels, stateSize);
    this.Ds = parameter(init.ones([directions * innerChannels]));
    this.out_norm = new LayerNorm(innerChannels);
    this.in_proj = dense(channels, innerChannels, false);
    this.conv2d = new DepthwiseSilu(innerChannels, { bias: convBias });
    this.out_proj = dense(innerChannels, channels, false);
  }

  /** [batch, height, width, channels] -> the same shape. `noise` is for blocks that choose. */
  forward(x: Tensor, noise?: Tensor): Tensor {
    const inner = this.conv2d.forward(this.in_proj.forward(x));
    return this.out_proj.forward(this.out_norm.forward(this.core(inner, noise)));
  }

  /** The scan of a map [batch, height, width, inner channels]. */
  protected abstract core(x: Tensor, noise?: Tensor): Tensor;

  /**
   * Projects tokens to dt, B and C and scans them in every direction; the directions' results are summed on their tokens.
   * @param x      [batch, tokens, inner channels]
   * @param order  scan position -> token, [1 or batch, directions, tokens]
   */
  protected scan(x: Tensor, order: Tensor): Tensor {
    const [batch, tokens] = x.shape;
    const [directions, rows, inner] = this.x_proj_weight.shape;
    const projected = reshape(linear(x, reshape(this.x_proj_weight, [directions * rows, inner])), [
      batch,
      tokens,
      directions,
      rows,
    ]);
    return projectedScan(x, projected, this.dt_projs_weight, neg(exp(this.A_logs)), {
      D: this.Ds,
      deltaBias: reshape(this.dt_projs_bias, [directions * inner]),
      order,
    });
  }
}

export interface CrossScanOptions extends SS2DOptions {
  /** Side, in tokens, of windows that are read one after the other; 0: the map is one window. */
  fixedWindow: number;
}

/** The plain block's core: by rows, by columns, and both reversed. */
export class CrossScan extends SS2D {
  readonly #tables: TableCache<{ order: Int32Array }>;

  constructor(options: CrossScanOptions) {
    super(4, options);
    this.#tables = new TableCache((height, width) => ({
      tables: { order: crossOrders(height, width, options.fixedWindow) },
      shapes: { order: [1, 4, height * width] },
    }));
  }

  protected core(x: Tensor): Tensor {
    const [batch, height, width, inner] = x.shape;
    const y = this.scan(
      reshape(x, [batch, height * width, inner]),
      this.#tables.get(height, width, x.device).order,
    );
    return reshape(y, x.shape);
  }

  override dispose(): void {
    super.dispose();
    this.#tables.dispose();
  }
}
