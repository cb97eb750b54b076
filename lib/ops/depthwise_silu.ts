import { parameterDType } from "../tensor/dtype.js";
import { sameShape, size } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { ShapeError, show } from "../util/errors.js";
import { defineOp, launch, requireFloat, requireParameters } from "./define.js";

const depthwiseSiluOp = defineOp({
  name: "depthwiseSilu",
  infer: ([x, weight, bias]) => {
    const op = "depthwiseSilu";
    const dtype = requireFloat(op, x);
    requireParameters(op, x, weight, bias);
    if (x.rank !== 4)
      throw new ShapeError(
        op,
        "input is no batch of images",
        "[batch, height, width, channels]",
        show(x.shape),
      );
    const channels = x.shape[3];
    if (channels === 0 || !sameShape(weight.shape, [channels, 1, 3, 3]))
      throw new ShapeError(
        op,
        "weight does not fit",
        `[${channels}, 1, 3, 3], not empty`,
        show(weight.shape),
      );
    if (bias && !sameShape(bias.shape, [channels]))
      throw new ShapeError(op, "bias does not fit", `[${channels}]`, show(bias.shape));
    return { shape: x.shape, dtype };
  },
  macs: (_, out) => size(out.shape) * 9,
  forward: (inputs, _, out) => launch("depthwise_silu_fwd", inputs, [out]),
  saves: { inputs: [0, 1, 2] },
  backward: (dy, { inputs: [x, weight, bias] }) =>
    launch(
      "depthwise_silu_bwd",
      [dy, x, weight, bias ?? null],
      [x, weight, { ...weight, shape: weight.shape.slice(0, 1), dtype: parameterDType(x.dtype) }],
    ),
});

/**
 * silu(conv2d(x, weight, bias)) of a depthwise 3x3 convolution with stride 1 and padding 1, in one pass: the convolution's own
 * result is not kept, backward computes it again.
 * @param x       [batch, height, width, channels]
 * @param weight  [channels, 1, 3, 3]
 * @param bias    [channels], or absent
 * @returns       the shape of x
 */
export function depthwiseSilu(x: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  requireTensor("depthwiseSilu", "input", x);
  requireTensor("depthwiseSilu", "weight", weight);
  if (bias) requireTensor("depthwiseSilu", "bias", bias);
  return depthwiseSiluOp([x, weight, bias ?? null]);
}
