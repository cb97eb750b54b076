/** Products. */
import type { DType } from "../tensor/dtype.js";
import { broadcastShapes, requireShape, type Shape, size } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireBoolean, requireOptions } from "../util/check.js";
import { ShapeError, show } from "../util/errors.js";
import { defineOp, type Input, launch, requireFloat, requireParameters, requireSameDType } from "./define.js";
import { sum } from "./reduce.js";
import { reshape } from "./shape_ops.js";

export interface MatmulOptions {
  /** Take a (or b) with its last two axes exchanged, without a copy. */
  transposeA?: boolean;
  transposeB?: boolean;
}
interface Flags {
  a: boolean;
  b: boolean;
}

const matmulOp: (inputs: readonly Input[], flags: Flags) => Tensor = defineOp<Flags>({
  name: "matmul",
  infer: ([a, b], flags) => {
    const dtype = requireFloat("matmul", a);
    requireSameDType("matmul", a, b);
    const [rowsA, columnsA] = matrixShape(a, flags.a);
    const [rowsB, columnsB] = matrixShape(b, flags.b);
    if (columnsA !== rowsB)
      throw new ShapeError(
        "matmul",
        "inner dimensions differ",
        "[.., m, k] x [.., k, n]",
        `${show(a.shape)}${flags.a ? " transposed" : ""} and ${show(b.shape)}${flags.b ? " transposed" : ""}`,
      );
    const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
    return {
      shape: requireShape("matmul", [...batch, rowsA, columnsB]),
      dtype,
    };
  },
  macs: ([a], out, flags) => size(out.shape) * matrixShape(a, flags.a)[1],
  forward: (inputs, { a, b }, out) => launch("matmul_fwd", inputs, [out], [Number(a), Number(b)]),
  saves: { inputs: [0, 1] },
  // With op(A) op(B) = Y: dop(A) = dY op(B)^T, dop(B) = op(A)^T dY; transposed operands get transposed gradients.
  backward: (dy, { inputs: [a, b], needs, attrs: flags }) => [
    needs[0]
      ? flags.a
        ? matmulOp([b, dy], { a: flags.b, b: true })
        : matmulOp([dy, b], { a: false, b: !flags.b })
      : null,
    needs[1]
      ? flags.b
        ? matmulOp([dy, a], { a: true, b: flags.a })
        : matmulOp([a, dy], { a: !flags.a, b: false })
      : null,
  ],
});

function matrixShape(t: Tensor, transposed: boolean): [number, number] {
  const [rows, columns] = t.shape.slice(-2);
  return transposed ? [columns, rows] : [rows, columns];
}

/**
 * Matrix product over the last two axes, [.., m, k] x [.., k, n] -> [.., m, n]; the axes before them broadcast. A vector
 * counts as a row on the left and as a column on the right, and its axis is dropped from the result.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const op = "matmul";
  requireTensor(op, "a", a);
  requireTensor(op, "b", b);
  requireOptions(op, options, ["transposeA", "transposeB"]);
  const flags = {
    a: requireBoolean(op, "transposeA", options.transposeA ?? false),
    b: requireBoolean(op, "transposeB", options.transposeB ?? false),
  };
  if (a.rank === 0 || b.rank === 0)
    throw new ShapeError(
      op,
      "a scalar has no product",
      "rank 1 or more",
      `${show(a.shape)} and ${show(b.shape)}`,
    );
  const left = a.rank === 1 ? reshape(a, flags.a ? [a.size, 1] : [1, a.size]) : a;
  const right = b.rank === 1 ? reshape(b, flags.b ? [1, b.size] : [b.size, 1]) : b;
  const y = matmulOp([left, right], flags);
  const dropped = [...(a.rank === 1 ? [y.rank - 2] : []), ...(b.rank === 1 ? [y.rank - 1] : [])];
  return dropped.length > 0
    ? reshape(
        y,
        y.shape.filter((_, axis) => !dropped.includes(axis)),
      )
    : y;
}

/** The shape rule of linear and geluLinear. */
function inferLinear(op: string, [x, weight, bias]: readonly Tensor[]): { shape: Shape; dtype: DType } {
  const dtype = requireFloat(op, x);
  requireParameters(op, x, weight, bias);
  if (weight.rank !== 2 || x.rank < 1 || x.shape[x.rank - 1] !== weight.shape[1])
    throw new ShapeError(
      op,
      "input and weight do not fit",
      "x [.., in], weight [out, in]",
      `${show(x.shape)} and ${show(weight.shape)}`,
    );
  if (bias && (bias.rank !== 1 || bias.shape[0] !== weight.shape[0]))
    throw new ShapeError(op, "bias does not fit", `[${weight.shape[0]}]`, show(bias.shape));
  return { shape: [...x.shape.slice(0, -1), weight.shape[0]], dtype };
}

/** dL/dbias: dy summed over all rows. */
function biasGradient(dy: Tensor): Tensor {
  return sum(
    dy,
    dy.shape.slice(1).map((_, axis) => axis),
  );
}

const linearOp = defineOp({
  name: "linear",
  infer: (inputs) => inferLinear("linear", inputs),
  macs: ([, weight], out) => size(out.shape) * weight.shape[1],
  forward: (inputs, _, out) => launch("linear_fwd", inputs, [out]),
  saves: { inputs: [0, 1] },
  backward: (dy, { inputs: [x, weight], specs, needs }) => [
    needs[0] ? launch("linear_bwd_x", [dy, weight], [specs[0]])[0] : null,
    needs[1] ? launch("linear_bwd_w", [dy, x], [specs[1]])[0] : null,
    needs[2] ? biasGradient(dy) : null,
  ],
});
/** y = x weight^T + bias. x [.., in], weight [out, in], bias [out] or absent; y [.., out]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  requireTensor("linear", "input", x);
  requireTensor("linear", "weight", weight);
  if (bias) requireTensor("linear", "bias", bias);
  return linearOp([x, weight, bias ?? null]);
}

const geluLinearOp = defineOp({
  name: "geluLinear",
  infer: (inputs) => inferLinear("geluLinear", inputs),
  macs: ([, weight], out) => size(out.shape) * weight.shape[1],
  forward: (inputs, _, out) => launch("gelu_linear_fwd", inputs, [out]),
  saves: { inputs: [0, 1] },
  backward: (dy, { inputs: [h, weight], specs, needs }) => [
    needs[0] ? launch("gelu_linear_bwd_x", [dy, weight, h], [specs[0]])[0] : null,
    needs[1] ? launch("gelu_linear_bwd_w", [dy, h], [specs[1]])[0] : null,
    needs[2] ? biasGradient(dy) : null,
  ],
});
/**
 * y = gelu(h) weight^T + bias: `linear(gelu(h), weight, bias)` that keeps h alone for backward, and applies GELU (exact, by erf)
 * as it reads it. h [.., in], weight [out, in], bias [out] or absent; y [.., out].
 */
export function geluLinear(h: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  requireTensor("geluLinear", "input", h);
  requireTensor("geluLinear", "weight", weight);
  if (bias) requireTensor("geluLinear", "bias", bias);
  return geluLinearOp([h, weight, bias ?? null]);
}

const groupedLinearOp = defineOp({
  name: "groupedLinear",
  infer: ([x, weight]) => {
    const dtype = requireFloat("groupedLinear", x);
    requireParameters("groupedLinear", x, weight);
    if (
      weight.rank !== 3 ||
      x.rank < 2 ||
      x.shape[x.rank - 2] !== weight.shape[0] ||
      x.shape[x.rank - 1] !== weight.shape[2]
    )
      throw new ShapeError(
        "groupedLinear",
        "input and weight do not fit",
        "x [.., groups, in], weight [groups, out, in]",
        `${show(x.shape)} and ${show(weight.shape)}`,
      );
    return { shape: [...x.shape.slice(0, -1), weight.shape[1]], dtype };
  },
  macs: ([, weight], out) => size(out.shape) * weight.shape[2],
  forward: (inputs, _, out) => launch("grouped_linear_fwd", inputs, [out]),
  saves: { inputs: [0, 1] },
  backward: (dy, { inputs: [x, weight], specs, needs }) => [
    needs[0] ? launch("grouped_linear_bwd_x", [dy, weight], [specs[0]])[0] : null,
    needs[1] ? launch("grouped_linear_bwd_w", [dy, x], [specs[1]])[0] : null,
  ],
});
/** One linear map per group, without bias: y[.., g, :] = x[.., g, :] weight[g]^T. x [.., groups, in], weight [groups, out, in]. */
export function groupedLinear(x: Tensor, weight: Tensor): Tensor {
  requireTensor("groupedLinear", "input", x);
  requireTensor("groupedLinear", "weight", weight);
  return groupedLinearOp([x, weight]);
}
