import { GELU, LayerNorm, Module, Sequential } from "../../nn/index.js";
import { cast, logSoftmax, quadrantContext, roll, slice } from "../../ops/index.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Semantics } from "./config.js";
import { dense } from "./initial.js";

/**
 * Scores how much each token deserves a fine reading (paper Eq. 4-6): features by LN, Linear, GELU; half of them replaced by
 * their mean over the token's quadrant, upsampled; then a small MLP to two classes, of which the first is the score.
 *
 * Computed in float64. Only differences between quadrants matter, so the gradients of a sample's tokens sum to nearly nothing:
 * what is left of them in float32 is rounding (measured on the goldens: relative errors up to 500 in the last biases). Data of
 * bfloat16 has no such digits to lose: there the layers compute as everywhere, and the scores in float32.
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
   * @param shift  of the windows; 'paper' shifts the scores with them, the released code does not
   * @returns      log-probabilities of a fine reading, [batch, height, width, 1], float64 (of bfloat16 data float32)
   */
  forward(x: Tensor, shift: [number, number]): Tensor {
    const mixed = x.dtype === "bfloat16";
    const features = this.in_conv.forward(mixed ? x : cast(x, "float64"));
    const paper = this.#semantics === "paper";
    const classes = this.out_conv.forward(paper ? quadrantContext(features) : features);
    const scores = slice(logSoftmax(mixed ? cast(classes, "float32") : classes), 3, 0, 1);
    return paper && (shift[0] !== 0 || shift[1] !== 0) ? roll(scores, shift, [1, 2]) : scores;
  }
}
