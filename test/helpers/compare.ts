/** Comparison of a tensor with its float64 reference; a failure names op, shape, dtype and the worst element. */
import * as assert from "uvu/assert";
import type { Tensor } from "../../lib/tensor/tensor.js";
import type { NdArray } from "./nd.js";

/** The elements as float64; bool as 0 and 1. */
export function values(t: Tensor): Float64Array {
  const raw = t.toTypedArray();
  if (t.dtype === "bfloat16") return Float64Array.from(raw as Uint16Array, fromBfloat16);
  return Float64Array.from(raw as Float64Array, Number);
}

export function fromBfloat16(bits: number): number {
  return new Float32Array(new Uint32Array([bits << 16]).buffer)[0];
}

/** Allowed: rtol |want| + atol + scale[k], where `scale` is the size of the terms that make up element k. */
export interface Tolerance {
  rtol?: number;
  atol?: number;
  scale?: ArrayLike<number>;
}

/** Equal values, NaN to NaN and infinities alike; `signedZero` tells -0 from 0. */
export function same(got: number, want: number, signedZero = false): boolean {
  return Number.isNaN(want) ? Number.isNaN(got) : signedZero ? Object.is(got, want) : got === want;
}

export function expectClose(what: string, got: Tensor, want: NdArray, tolerance: Tolerance): void {
  assert.equal([...got.shape], [...want.shape], `${what}: shape`);
  expectCloseValues(`${what} ${got.dtype} [${got.shape.join(", ")}]`, values(got), want.data, tolerance);
}

export function expectCloseValues(
  what: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { rtol = 0, atol = 0, scale }: Tolerance,
): void {
  let worst = -1;
  let excess = 0;
  let bad = 0;
  for (let k = 0; k < want.length; k++) {
    if (same(got[k], want[k])) continue;
    const allowed = rtol * Math.abs(want[k]) + atol + (scale ? scale[k] : 0);
    const ratio = Math.abs(got[k] - want[k]) / allowed;
    if (ratio <= 1) continue;
    bad++;
    if (worst >= 0 && !(ratio > excess || Number.isNaN(ratio))) continue;
    worst = k;
    excess = ratio;
  }
  if (worst < 0) return;
  const error = Math.abs(got[worst] - want[worst]);
  assert.unreachable(
    `${what}: ${bad} of ${want.length} elements differ; worst at ${worst}: got ${got[worst]}, want ${want[worst]}, ` +
      `error ${error.toExponential(2)}, ${excess.toPrecision(3)} times the tolerance`,
  );
}

export function norm(values: ArrayLike<number>): number {
  let sum = 0;
  for (let k = 0; k < values.length; k++) sum += values[k] ** 2;
  return Math.sqrt(sum);
}

/**
 * |got - want| <= limit |want| as vectors. `least` takes the place of |want| where that is smaller: for sums that cancel, the norm
 * of what is summed.
 */
export function expectNormwise(
  what: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  limit: number,
  least = 0,
): void {
  assert.is(got.length, want.length, `${what}: number of elements`);
  const difference = norm(Float64Array.from(want, (v, k) => got[k] - v));
  // what float32 cannot hold is no error: below its normal range nothing is compared
  if (difference < 2 ** -126) return;
  const error = difference / Math.max(least, norm(want));
  assert.ok(
    error <= limit,
    `${what}: error ${error.toExponential(2)} relative to the norm, allowed ${limit}`,
  );
}

/** How many float32 values lie between a float32 result and the float64 truth. */
export function ulps32(got: number, want: number): number {
  const rounded = Math.fround(want);
  if (same(got, rounded)) return 0;
  if (!Number.isFinite(rounded) && Number.isFinite(got)) return (2 ** 128 - Math.abs(got)) / 2 ** 104;
  const exponent = Math.max(-126, Math.floor(Math.log2(Math.abs(rounded))));
  return Math.abs(got - want) / 2 ** (exponent - 23);
}
