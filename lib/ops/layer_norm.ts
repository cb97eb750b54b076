import { parameterDType } from "../tensor/dtype.js";
import { size } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireNumber, requireOptions } from "../util/check.js";
import { ShapeError, show } from "../util/errors.js";
import { defineOp, launch, requireFloat, requireParameters } from "./define.js";

const layerNormOp = defineOp<{ eps: number }>({
  name: "layerNorm",
  infer: ([x, weight, bias]) => {
    const dtype = requireFloat("layerNorm", x);
    requireParameters("layerNorm", x, weight, bias);
    if (x.rank < 1) throw new ShapeError("layerNorm", "a scalar has no channels", "[.., channels]", "[]");
    const channels = x.shape[x.rank - 1];
    for (const t of [weight, bias])
      if (t && (t.rank !== 1 || t.shape[0] !== channels))
        throw new ShapeError("layerNorm", "weight or bias does not fit", `[${channels}]`, show(t.shape));
    return { shape: x.shape, dtype };
  },
  macs: (_, out) => 5 * size(out.shape),
  forward: (inputs, { eps }, out) => {
    const rows = { ...out, dtype: parameterDType(out.dtype), shape: out.shape.slice(0, -1) };
    return launch("layer_norm_fwd", inputs, [out, rows, rows], [eps]);
  },
  saves: { inputs: [0, 1] },
  folds: 0,
  backward: (dy, { inputs: [x, weight], extras: [mean, rstd], waiting }) => {
    const channels = {
      shape: dy.shape.slice(-1),
      dtype: parameterDType(dy.dtype),
      device: dy.device,
    };
    return launch("layer_norm_bwd", [dy, x, weight ?? null, mean, rstd, waiting], [x, channels, channels]);
  },
});

/**
 * Normalises the last axis: (x - mean) / sqrt(var + eps) weight + bias, with the variance of the population.
 * @param x [.., channels]  @param weight [channels] or absent  @param bias [channels] or absent
 * @param options `eps`, default 1e-5
 */
export function layerNorm(
  x: Tensor,
  weight?: Tensor | null,
  bias?: Tensor | null,
  options: { eps?: number } = {},
): Tensor {
  const op = "layerNorm";
  requireTensor(op, "input", x);
  if (weight) requireTensor(op, "weight", weight);
  if (bias) requireTensor(op, "bias", bias);
  requireOptions(op, options, ["eps"]);
  return layerNormOp([x, weight ?? null, bias ?? null], {
    eps: requireNumber(op, "eps", options.eps ?? 1e-5, 0),
  });
}
