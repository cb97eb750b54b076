import { size } from "../tensor/shape.js";
import { requireTensor, type Tensor, type TensorSpec } from "../tensor/tensor.js";
import { requireBoolean, requireOptions } from "../util/check.js";
import { DTypeError, ShapeError, show } from "../util/errors.js";
import { cast } from "./cast.js";
import { defineOp, type Input, launch, requireFloat, requireParameters, requireSameDType } from "./define.js";
import { reshape } from "./shape_ops.js";

export interface SelectiveScanOptions {
  /** Skip weight, [channels]. */
  D?: Tensor | null;
  /** Added to delta before softplus, [channels]. */
  deltaBias?: Tensor | null;
  /** Whether delta is the softplus of what is given. Default false. */
  deltaSoftplus?: boolean;
  /** Scan position -> token: [length], [batch, length], or one per group, [1 or batch, groups, length]. Each a permutation. */
  order?: Tensor | null;
  /** Sum the groups on their tokens: y gets channels / groups channels. Default false. */
  merge?: boolean;
}

export interface ScanFlags {
  softplus: boolean;
  merge: boolean;
}

/** Scan positions between two saved states: backward recomputes the states in between. */
export function chunkLength(states: number): number {
  return states <= 4 ? 64 : 32;
}

/** The states that forward keeps for backward: [batch, chunks, channels, states]. */
export function keptStates(batch: number, length: number, A: Tensor): TensorSpec {
  const [channels, states] = A.shape;
  const chunks = Math.ceil(length / chunkLength(states));
  return { shape: [batch, chunks, channels, states], dtype: A.dtype, device: A.device };
}

/** Runs the scan kernel: y, and the states that backward starts from. Inputs: u, delta, A, B, C, D?, bias?, order?. */
export function launchScan(
  inputs: readonly Input[],
  { softplus, merge }: ScanFlags,
  out: TensorSpec,
): Tensor[] {
  const [delta, A] = [inputs[1] as Tensor, inputs[2] as Tensor];
  const kept = keptStates(delta.shape[0], delta.shape[1], A);
  const attrs = [Number(softplus), Number(merge), chunkLength(A.shape[1])];
  return launch("selective_scan_fwd", inputs, [out, kept], attrs);
}

/** Gradients of u, delta, A, B, C, D and bias. */
export function launchScanGradients(
  dy: Tensor,
  inputs: readonly Input[],
  states: Tensor,
  { softplus, merge }: ScanFlags,
): Tensor[] {
  const [u, delta, A, B, C] = inputs as readonly Tensor[];
  const [D, bias, order] = [inputs[5] ?? null, inputs[6] ?? null, inputs[7] ?? null];
  const channels: TensorSpec = { shape: [A.shape[0]], dtype: A.dtype, device: A.device };
  return launch(
    "selective_scan_bwd",
    [dy, u, delta, A, B, C, D, bias, states, order],
    [u, delta, A, B, C, channels, channels],
    [Number(softplus), Number(merge), chunkLength(A.shape[1])],
  );
}

/** The shapes of an order: shared, per sample, or per group as well. */
export function orderFits(order: Tensor, batch: number, groups: number, length: number): boolean {
  const shape = show(order.shape);
  return [[length], [batch, length], [1, groups, length], [batch, groups, length]].some(
    (s) => show(s) === shape,
  );
}

const scanOp = defineOp<ScanFlags>({
  name: "selectiveScan",
  infer: ([u, delta, A, B, C, D, bias, order], { merge }) => {
    const op = "selectiveScan";
    const dtype = requireFloat(op, u);
    requireSameDType(op, u, delta, B, C);
    requireParameters(op, u, A, D, bias);
    if (delta.rank !== 3)
      throw new ShapeError(op, "delta has the wrong rank", "[batch, length, channels]", show(delta.shape));
    const [batch, length, channels] = delta.shape;
    const groups = B.rank === 4 ? B.shape[2] : 0;
    const states = A.rank === 2 ? A.shape[1] : 0;
    const known = `(delta ${show(delta.shape)}, A ${show(A.shape)}, B ${show(B.shape)})`;
    const rule = (ok: boolean, what: string, expected: string, t: Tensor) => {
      if (!ok) throw new ShapeError(op, `${what} has the wrong shape`, expected, `${show(t.shape)} ${known}`);
    };
    rule(
      A.rank === 2 && A.shape[0] === channels && states >= 1,
      "A",
      `[channels, states] with ${channels} channels`,
      A,
    );
    rule(
      B.rank === 4 && groups >= 1 && channels % groups === 0,
      "B",
      "[batch, length, groups, states], groups dividing channels",
      B,
    );
    const expectedB = [batch, length, groups, states];
    rule(show(B.shape) === show(expectedB), "B", `[batch, length, groups, states] = ${show(expectedB)}`, B);
    rule(show(C.shape) === show(expectedB), "C", `[batch, length, groups, states] = ${show(expectedB)}`, C);
    const own = channels / groups;
    rule(
      u.rank === 3 &&
        u.shape[0] === batch &&
        u.shape[1] === length &&
        (u.shape[2] === channels || u.shape[2] === own),
      "u",
      `[batch, length, channels] = ${show([batch, length, channels])}, or ${own} channels shared by the groups`,
      u,
    );
    if (D) rule(D.rank === 1 && D.shape[0] === channels, "D", `[channels] = [${channels}]`, D);
    if (bias)
      rule(bias.rank === 1 && bias.shape[0] === channels, "deltaBias", `[channels] = [${channels}]`, bias);
    if (order) {
      rule(
        orderFits(order, batch, groups, length),
        "order",
        `[length], [batch, length] or [1 or batch, groups, length] with length ${length}`,
        order,
      );
    }
    return { shape: [batch, length, merge ? own : channels], dtype };
  },
  macs: ([, delta, A]) => size(delta.shape) * (9 * A.shape[1] + 1),
  forward: (inputs, flags, out) => launchScan(inputs, flags, out),
  saves: { inputs: [0, 1, 2, 3, 4, 5, 6, 7] },
  backward: (dy, { inputs, extras: [states], needs, attrs }) =>
    [...launchScanGradients(dy, inputs, states, attrs), null].map((g, k) => (needs[k] ? g : null)),
});

/**
 * Selective scan: h_j = exp(dt_j A) h_{j-1} + dt_j B_j u_j, y_j = <C_j, h_j> + D u_j, with h_0 = 0, over the tokens in scan
 * order; y is written back to the tokens. Source: Mamba (Gu & Dao 2023) Eq. 2, with A-bar = exp(dt A) and B-bar = dt B.
 *
 * @param u      [batch, length, channels]; or channels / groups channels, which every group then reads
 * @param delta  step sizes dt, [batch, length, channels]; with `deltaBias` and `deltaSoftplus`, what they are made of
 * @param A      decay rates, [channels, states], negative for a stable scan
 * @param B      [batch, length, groups, states], or [batch, length, states] for one group; groups divides channels
 * @param C      shape of B
 * @returns      y, [batch, length, channels], or channels / groups with `merge`
 * @throws {ShapeError} if shapes disagree; {DTypeError} if dtypes do; {IndexError} if an order is no permutation
 * Runs in float32 for float32 data. Backward: exact gradients of all inputs; keeps the inputs and one state per 64 (more than
 * four states: 32) positions. Deterministic: sums over channels and batch have a fixed order.
 */
export function selectiveScan(
  u: Tensor,
  delta: Tensor,
  A: Tensor,
  B: Tensor,
  C: Tensor,
  options: SelectiveScanOptions = {},
): Tensor {
  const op = "selectiveScan";
  for (const [name, t] of Object.entries({ u, delta, A, B, C })) requireTensor(op, name, t);
  requireOptions(op, options, ["D", "deltaBias", "deltaSoftplus", "order", "merge"]);
  const { D = null, deltaBias = null, order = null } = options;
  for (const [name, t] of Object.entries({ D, deltaBias, order })) if (t) requireTensor(op, name, t);
  if (order && order.dtype !== "int32" && order.dtype !== "int64")
    throw new DTypeError(op, "order must be whole numbers", "int32 or int64", order.dtype);
  const oneGroup = (t: Tensor) => (t.rank === 3 ? reshape(t, [t.shape[0], t.shape[1], 1, t.shape[2]]) : t);
  return scanOp(
    [
      u,
      delta,
      A,
      oneGroup(B),
      oneGroup(C),
      D,
      deltaBias,
      order && order.dtype === "int64" ? cast(order, "int32") : order,
    ],
    {
      softplus: requireBoolean(op, "deltaSoftplus", options.deltaSoftplus ?? false),
      merge: requireBoolean(op, "merge", options.merge ?? false),
    },
  );
}
