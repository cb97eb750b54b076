import { sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireNumber, requireOneOf, requireOptions } from "../util/check.js";
import { DTypeError, ShapeError, show } from "../util/errors.js";
import { cast } from "./cast.js";
import { defineOp, launch, noGradient, requireFloat, requireSameDType } from "./define.js";
import { mean, sum } from "./reduce.js";
import { reshape } from "./shape_ops.js";

export interface CrossEntropyOptions {
  /** Label smoothing s in [0, 1]: the target becomes (1 - s) target + s / classes. */
  smoothing?: number;
  reduction?: "mean" | "sum" | "none";
}

const crossEntropyOp = defineOp<{ smoothing: number }>({
  name: "crossEntropy",
  infer: ([logits, target]) => {
    const dtype = requireFloat("crossEntropy", logits);
    if (dtype === "bfloat16")
      throw new DTypeError("crossEntropy", "has no bfloat16 form (cast it)", "float32", "bfloat16");
    const rows = logits.shape.slice(0, -1);
    if (target.dtype === "int64") {
      if (!sameShape(target.shape, rows))
        throw new ShapeError(
          "crossEntropy",
          "labels do not match the logits",
          show(rows),
          show(target.shape),
        );
    } else {
      requireSameDType("crossEntropy", logits, target);
      if (!sameShape(target.shape, logits.shape))
        throw new ShapeError(
          "crossEntropy",
          "target does not match the logits",
          show(logits.shape),
          show(target.shape),
        );
      if (target.requiresGrad) noGradient("crossEntropy", "the target");
    }
    return { shape: rows, dtype };
  },
  forward: (inputs, { smoothing }, out) => launch("cross_entropy_fwd", inputs, [out], [smoothing]),
  saves: { inputs: [0, 1] },
  backward: (dy, { inputs: [logits, target], attrs: { smoothing } }) => [
    launch("cross_entropy_bwd", [logits, target, dy], [logits], [smoothing])[0],
    null,
  ],
});

/**
 * Cross-entropy of softmax(logits): -sum_c target_c log softmax(logits)_c, averaged over all rows.
 * @param logits [..., classes]
 * @param target labels [...] (int64, int32 or uint8), or probabilities of the shape and dtype of logits
 * @throws {IndexError} for a label outside of [0, classes)
 */
export function crossEntropy(logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const op = "crossEntropy";
  requireTensor(op, "logits", logits);
  requireTensor(op, "target", target);
  requireOptions(op, options, ["smoothing", "reduction"]);
  const smoothing = requireNumber(op, "smoothing", options.smoothing ?? 0, 0, 1);
  const reduction = requireOneOf(op, "reduction", options.reduction ?? "mean", ["mean", "sum", "none"]);
  if (logits.rank < 1 || logits.shape[logits.rank - 1] === 0)
    throw new ShapeError(op, "logits have no classes", "[..., classes]", show(logits.shape));
  if (target.dtype === "bool" || target.dtype === "bfloat16")
    throw new DTypeError(
      op,
      "target is not valid",
      "labels (int64, int32, uint8) or probabilities",
      target.dtype,
    );
  const labels = target.dtype === "int32" || target.dtype === "uint8" ? cast(target, "int64") : target;
  const loss = crossEntropyOp([logits, labels], { smoothing });
  if (reduction === "none") return loss;
  return reduction === "sum" ? sum(reshape(loss, [-1])) : mean(reshape(loss, [loss.size]));
}
