import { requirePair, requireShape, size } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireInteger, requireOptions } from "../util/check.js";
import { ShapeError, show } from "../util/errors.js";
import { defineOp, launch, requireFloat, requireParameters } from "./define.js";
import { sum } from "./reduce.js";

export interface Conv2dOptions {
  /** Pixels between two windows; a number for both directions, or [rows, columns]. Default 1. */
  stride?: number | [number, number];
  /** Zero pixels added on every side. Default 0. */
  padding?: number | [number, number];
  /** Pixels between two taps of the kernel. Default 1. */
  dilation?: number | [number, number];
  /** Channels are cut into this many groups that do not see each other. Default 1. */
  groups?: number;
}
interface Geometry {
  stride: [number, number];
  padding: [number, number];
  dilation: [number, number];
  groups: number;
}

function attrsOf({ stride, padding, dilation, groups }: Geometry): number[] {
  return [2, ...stride, 2, ...padding, 2, ...dilation, groups];
}

const conv2dOp = defineOp<Geometry>({
  name: "conv2d",
  infer: ([x, weight, bias], { stride, padding, dilation, groups }) => {
    const dtype = requireFloat("conv2d", x);
    requireParameters("conv2d", x, weight, bias);
    if (x.rank !== 4 || weight.rank !== 4)
      throw new ShapeError(
        "conv2d",
        "ranks are wrong",
        "x [batch, height, width, in], weight [out, in / groups, rows, columns]",
        `${show(x.shape)} and ${show(weight.shape)}`,
      );
    const [batch, height, width, channels] = x.shape;
    const [out, perGroup, rows, columns] = weight.shape;
    if (weight.size === 0 || channels !== perGroup * groups || out % groups !== 0)
      throw new ShapeError(
        "conv2d",
        "channels do not fit",
        `weight [out, ${channels} / ${groups}, rows, columns], none of them 0, groups dividing out`,
        show(weight.shape),
      );
    if (bias && (bias.rank !== 1 || bias.shape[0] !== out))
      throw new ShapeError("conv2d", "bias does not fit", `[${out}]`, show(bias.shape));
    const outSize = (size: number, taps: number, k: 0 | 1) =>
      Math.floor((size + 2 * padding[k] - dilation[k] * (taps - 1) - 1) / stride[k]) + 1;
    const [outHeight, outWidth] = [outSize(height, rows, 0), outSize(width, columns, 1)];
    if (outHeight < 1 || outWidth < 1)
      throw new ShapeError(
        "conv2d",
        "the image is smaller than the kernel",
        `at least ${dilation[0] * (rows - 1) + 1} x ${dilation[1] * (columns - 1) + 1} with padding`,
        show(x.shape),
      );
    return {
      shape: requireShape("conv2d", [batch, outHeight, outWidth, out]),
      dtype,
    };
  },
  macs: ([, weight], out) => size(out.shape) * size(weight.shape.slice(1)),
  forward: (inputs, geometry, out) => launch("conv2d_fwd", inputs, [out], attrsOf(geometry)),
  saves: { inputs: [0, 1] },
  backward: (dy, { inputs: [x, weight], specs, needs, attrs }) => [
    needs[0] ? launch("conv2d_bwd_x", [dy, weight], [specs[0]], attrsOf(attrs))[0] : null,
    needs[1] ? launch("conv2d_bwd_w", [dy, x], [specs[1]], attrsOf(attrs))[0] : null,
    needs[2] ? sum(dy, [0, 1, 2]) : null,
  ],
});

/**
 * 2-D convolution (cross-correlation), channels last.
 * @param x       [batch, height, width, in]
 * @param weight  [out, in / groups, rows, columns], the layout of PyTorch checkpoints
 * @param bias    [out], or absent
 * @returns       [batch, floor((height + 2 padding - dilation (rows - 1) - 1) / stride) + 1, ..., out]
 */
export function conv2d(x: Tensor, weight: Tensor, bias?: Tensor | null, options: Conv2dOptions = {}): Tensor {
  const op = "conv2d";
  requireTensor(op, "input", x);
  requireTensor(op, "weight", weight);
  if (bias) requireTensor(op, "bias", bias);
  requireOptions(op, options, ["stride", "padding", "dilation", "groups"]);
  return conv2dOp([x, weight, bias ?? null], {
    stride: requirePair(op, "stride", options.stride ?? 1, 1),
    padding: requirePair(op, "padding", options.padding ?? 0, 0),
    dilation: requirePair(op, "dilation", options.dilation ?? 1, 1),
    groups: requireInteger(op, "groups", options.groups ?? 1, 1, 2 ** 31),
  });
}
