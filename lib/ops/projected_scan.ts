import { sameShape, size } from "../tensor/shape.js";
import { alias, requireTensor, type Tensor, type TensorSpec } from "../tensor/tensor.js";
import { requireInteger, requireOptions } from "../util/check.js";
import { DTypeError, ShapeError, show } from "../util/errors.js";
import { defineOp, launch, requireFloat, requireParameters, requireSameDType } from "./define.js";
import { chunkLength, keptStates, launchScan, launchScanGradients, orderFits } from "./selective_scan.js";

export interface ProjectedScanOptions {
  /** Skip weight, [groups channels]. */
  D?: Tensor | null;
  /** Added to the projected steps before softplus, [groups channels]. */
  deltaBias?: Tensor | null;
  /** Scan position -> token: [length], [batch, length], or one per group, [1 or batch, groups, length]. */
  order?: Tensor | null;
}

const FLAGS = { softplus: true, merge: true };

/** Columns [from, from + width) of the last axis, as a tensor of their own. */
function columns(x: Tensor, from: number, width: number): Tensor {
  const [batch, length, groups, all] = x.shape;
  const strides = [length * groups * all, groups * all, all, 1];
  return launch(
    "strided_read",
    [x],
    [{ ...x, shape: [batch, length, groups, width] }],
    [from, 4, ...strides],
  )[0];
}

/** One kernel: y, then what backward needs. */
function fused([u, projected, dtWeight, A, D, bias, order]: readonly Tensor[], out: TensorSpec): Tensor[] {
  const kept = keptStates(u.shape[0], u.shape[1], A);
  const [y, states] = launch(
    "projected_scan_fwd",
    [u, projected, dtWeight, A, D, bias, order],
    [out, kept],
    [chunkLength(A.shape[1])],
  );
  return [y, alias(projected, "projectedScan"), states];
}

/** Gradients of u, projected, dtWeight, A, D and bias. */
function fusedGradients(
  dy: Tensor,
  [u, , dtWeight, A, D, bias, order]: readonly Tensor[],
  [projected, states]: readonly Tensor[],
): Tensor[] {
  const channels: TensorSpec = { shape: [A.shape[0]], dtype: A.dtype, device: A.device };
  return launch(
    "projected_scan_bwd",
    [dy, u, projected, dtWeight, A, D ?? null, bias ?? null, states, order ?? null],
    [u, projected, dtWeight, A, channels, channels],
    [chunkLength(A.shape[1])],
  );
}

/** The same of several kernels, for devices that have no kernel of it. */
function composed(
  [u, projected, dtWeight, A, D, bias, order]: readonly Tensor[],
  rank: number,
  out: TensorSpec,
): Tensor[] {
  const [batch, length, channels] = u.shape;
  const [groups, states] = [dtWeight.shape[0], A.shape[1]];
  const dt = columns(projected, 0, rank);
  const [delta] = launch(
    "grouped_linear_fwd",
    [dt, dtWeight],
    [{ ...out, shape: [batch, length, groups, channels] }],
  );
  const flat = alias(delta, "projectedScan", [batch, length, groups * channels]);
  const [B, C] = [columns(projected, rank, states), columns(projected, rank + states, states)];
  const [y, kept] = launchScan([u, flat, A, B, C, D, bias, order], FLAGS, out);
  return [y, dt, flat, B, C, kept];
}
function composedGradients(
  dy: Tensor,
  [u, , dtWeight, A, D, bias, order]: readonly Tensor[],
  [dt, delta, B, C, kept]: readonly Tensor[],
  projected: TensorSpec,
  needsWeight: boolean,
): (Tensor | null)[] {
  const [du, ddelta, dA, dB, dC, dD, dbias] = launchScanGradients(
    dy,
    [u, delta, A, B, C, D ?? null, bias ?? null, order ?? null],
    kept,
    FLAGS,
  );
  const [batch, length, groups] = dt.shape;
  const grouped = alias(ddelta, "projectedScan", [batch, length, groups, u.shape[2]]);
  const [ddt] = launch("grouped_linear_bwd_x", [grouped, dtWeight], [dt]);
  const [dprojected] = launch("concat_fwd", [ddt, dB, dC], [projected], [3]);
  const [dtWeightGradient] = needsWeight ? launch("grouped_linear_bwd_w", [grouped, dt], [dtWeight]) : [null];
  return [du, dprojected, dtWeightGradient, dA, dD, dbias];
}

const projectedScanOp = defineOp<{ rank: number }>({
  name: "projectedScan",
  infer: ([u, projected, dtWeight, A, D, bias, order]) => {
    const op = "projectedScan";
    const dtype = requireFloat(op, u);
    requireSameDType(op, u, projected);
    requireParameters(op, u, dtWeight, A, D, bias);
    const rule = (ok: boolean, what: string, expected: string, t: Tensor) => {
      if (!ok)
        throw new ShapeError(
          op,
          `${what} has the wrong shape`,
          expected,
          `${show(t.shape)} (u ${show(u.shape)})`,
        );
    };
    rule(u.rank === 3, "u", "[batch, length, channels]", u);
    rule(dtWeight.rank === 3, "dtWeight", "[groups, channels, rank]", dtWeight);
    const [batch, length, channels] = u.shape;
    const [groups, , rank] = dtWeight.shape;
    const states = A.rank === 2 ? A.shape[1] : 0;
    rule(dtWeight.shape[1] === channels && groups >= 1, "dtWeight", `[groups, ${channels}, rank]`, dtWeight);
    rule(A.shape[0] === groups * channels && states >= 1, "A", `[${groups * channels}, states]`, A);
    const expected = [batch, length, groups, rank + 2 * states];
    rule(
      sameShape(projected.shape, expected),
      "projected",
      `[batch, length, groups, rank + 2 states] = ${show(expected)}`,
      projected,
    );
    for (const [what, t] of [
      ["D", D],
      ["deltaBias", bias],
    ] as const)
      if (t) rule(sameShape(t.shape, [groups * channels]), what, `[${groups * channels}]`, t);
    if (order)
      rule(
        orderFits(order, batch, groups, length),
        "order",
        "[length], [batch, length] or [1 or batch, groups, length]",
        order,
      );
    return { shape: u.shape, dtype };
  },
  macs: ([u, , dtWeight, A]) => size(u.shape) * dtWeight.shape[0] * (dtWeight.shape[2] + 9 * A.shape[1] + 1),
  forward: (inputs, { rank }, out) =>
    out.device === "cpu" ? fused(inputs, out) : composed(inputs, rank, out),
  saves: { inputs: [0, 2, 3, 4, 5, 6] },
  backward: (dy, { inputs, extras, specs, needs }) => {
    const gradients =
      dy.device === "cpu"
        ? fusedGradients(dy, inputs, extras)
        : composedGradients(dy, inputs, extras, specs[1] as TensorSpec, needs[2]);
    return [...gradients, null].map((g, k) => (needs[k] ? g : null));
  },
});

/**
 * The selective scan of SS2D: steps, B and C of every direction (group) come as one projection of the tokens, steps are projected
 * further and passed through softplus, all directions read the same tokens, and their results are summed on them:
 * `selectiveScan(u, groupedLinear(dt, dtWeight), A, B, C, {D, deltaBias, deltaSoftplus: true, order, merge: true})` with
 * [dt, B, C] = projected. See there for the recurrence.
 *
 * @param u          tokens, [batch, length, channels]
 * @param projected  [batch, length, groups, rank + 2 states]
 * @param dtWeight   [groups, channels, rank]
 * @param A          decay rates, [groups channels, states]
 * @returns          [batch, length, channels]
 */
export function projectedScan(
  u: Tensor,
  projected: Tensor,
  dtWeight: Tensor,
  A: Tensor,
  options: ProjectedScanOptions = {},
): Tensor {
  const op = "projectedScan";
  for (const [name, t] of Object.entries({ u, projected, dtWeight, A })) requireTensor(op, name, t);
  requireOptions(op, options, ["D", "deltaBias", "order"]);
  const { D = null, deltaBias = null, order = null } = options;
  for (const [name, t] of Object.entries({ D, deltaBias, order })) if (t) requireTensor(op, name, t);
  if (order && order.dtype !== "int32") throw new DTypeError(op, "order is not int32", "int32", order.dtype);
  if (dtWeight.rank !== 3)
    throw new ShapeError(op, "dtWeight has the wrong rank", "[groups, channels, rank]", show(dtWeight.shape));
  const rank = requireInteger(op, "rank", dtWeight.shape[2], 1);
  return projectedScanOp([u, projected, dtWeight, A, D, deltaBias, order], { rank });
}
