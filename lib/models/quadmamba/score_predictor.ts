import { GELU, LayerNorm, Module, Sequential } from "../../nn/index.js";
import { adaptiveAvgPool2d, concat, interpolate, logSoftmax, roll, slice } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Semantics } from "./config.js";
import { dense } from "./initial.js";

/**
 * Scores how much each token deserves a fine reading (paper Eq. 4-6): features by LN, Linear, GELU; half of them replaced by
 * their mean over the token's quadrant, upsampled; then a small MLP to two classes, of which the first is the score.
 */
export class ScorePredictor extends Module {
  in_conv: Sequential;
  out_conv: Sequential;
  readonly #semantics: Semantics;

  constructor(channels: number, semantics: Semantics) {
    super();
    this.in_conv = new Sequential(new LayerNorm(channels), dense(channels, channels), new GELU());
    this.out_conv = new Sequential(
      dense(channels, channels / 2),
      new GELU(),
      dense(channels / 2, channels / 4),
      new GELU(),
      dense(channels / 4, 2),
    );
    this.#semantics = semantics;
  }

  /**
   * @param x      [batch, height, width, channels]
   * @param shift  of the windows; 'paper' shifts the features before it looks at quadrants, so the scores come back shifted
   * @returns      log-probabilities of a fine reading, [batch, height, width, 1]
   */
  forward(x: Tensor, shift: [number, number]): Tensor {
    let features = this.in_conv.forward(x);
    if (this.#semantics === "paper") {
      if (shift[0] !== 0 || shift[1] !== 0) features = roll(features, shift, [1, 2]);
      features = withQuadrantContext(features);
    }
    return slice(logSoftmax(this.out_conv.forward(features)), 3, 0, 1);
  }
}

/** [global half, local half averaged over each quadrant and upsampled bilinearly]: the first half of the channels is the local one. */
function withQuadrantContext(features: Tensor): Tensor {
  const [, height, width, channels] = features.shape;
  const local = slice(features, 3, 0, channels / 2);
  const global = slice(features, 3, channels / 2);
  return concat([global, interpolate(adaptiveAvgPool2d(local, 2), { size: [height, width], mode: "bilinear" })], 3);
}
