import { sameShape } from "../tensor/shape.js";
import { alias, requireTensor, type Tensor } from "../tensor/tensor.js";
import { ShapeError, show } from "../util/errors.js";
import { defineOp, requireFloat, requireSameDType } from "./define.js";

const straightThroughOp = defineOp({
  name: "straightThrough",
  infer: ([value, surrogate]) => {
    const dtype = requireFloat("straightThrough", value);
    requireSameDType("straightThrough", value, surrogate);
    if (!sameShape(value.shape, surrogate.shape))
      throw new ShapeError(
        "straightThrough",
        "value and surrogate differ",
        show(surrogate.shape),
        show(value.shape),
      );
    return { shape: value.shape, dtype };
  },
  forward: ([value]) => alias(value, "straightThrough"),
  backward: (dy) => [null, dy],
});

/**
 * The straight-through estimator: `value` going forward, the gradient of `surrogate` coming back. For choices that have no
 * gradient of their own: a one-hot with the softmax behind it, a rounded number with the number.
 */
export function straightThrough(value: Tensor, surrogate: Tensor): Tensor {
  requireTensor("straightThrough", "value", value);
  requireTensor("straightThrough", "surrogate", surrogate);
  return straightThroughOp([value, surrogate]);
}
