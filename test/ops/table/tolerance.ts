/** How far from the float64 reference results may be: one line of figures per dtype, scaled by those of the row. */
import type { DType } from "../../../lib/tensor/dtype.js";
import type { Tolerance } from "../../helpers/compare.js";
import { map, type NdArray } from "../../helpers/nd.js";
import type { Case, RowTolerance } from "./row.js";
import { type Arrays, type Run, reference } from "./run.js";

interface Precision {
  /** Relative to the value, for the row's `ulp`. */
  value: (ulp: number) => number;
  /** Relative to the largest value of the output, for the row's `ofLargest`. */
  largest: (units: number) => number;
  /** Relative to the sum of the sizes of `count` terms. */
  sum: (count: number) => number;
  /** What lies below the normal range has an absolute precision only. */
  least: number;
  /** Of a gradient, relative to its norm. */
  gradient: number;
}

const PRECISION: Partial<Record<DType, Precision>> = {
  float32: {
    value: (ulp) => ulp * 2 ** -23,
    largest: (units) => units * 2 ** -23,
    sum: (count) => Math.sqrt(count) * 2 ** -23,
    least: 2 ** -149,
    gradient: 1e-5,
  },
  float64: {
    value: () => 1e-12,
    largest: (units) => (units > 0 ? 1e-12 : 0),
    sum: () => 1e-12,
    least: 0,
    gradient: 1e-11,
  },
  // inputs and results are rounded to 8 bits, all between is float32
  bfloat16: {
    value: () => 2 ** -7,
    largest: (units) => (units > 0 ? 2 ** -7 : 0),
    sum: () => 2 ** -7,
    least: 2 ** -133,
    gradient: 3e-2,
  },
};

/** The tolerance of one output of a run, which has the given dtype. */
export function toleranceOf(
  run: Run,
  arrays: Arrays,
  want: NdArray,
  output: number,
  dtype: DType,
): Tolerance {
  const precision = PRECISION[dtype];
  const chosen = run.c.tolerance ?? run.row.tolerance;
  if (!chosen || !precision) return {};
  const { ulp = 0, ofLargest = 0, terms, slack }: RowTolerance = chosen;
  const largest = want.data.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const scale = terms
    ? sumsOfSizes(run, arrays, output).map((size) => precision.sum(countOf(terms, run.c)) * size)
    : dtype === "float32" && slack
      ? arrays[0]?.data.map(slack)
      : undefined;
  return {
    rtol: precision.value(ulp),
    atol: precision.largest(ofLargest) * largest + precision.least,
    scale,
  };
}

/** The sizes of the terms of each element, added up: the reference of the inputs' absolute values. */
function sumsOfSizes(run: Run, arrays: Arrays, output: number): Float64Array {
  const sizes = arrays.map((x) => x && map(x, Math.abs));
  return reference(run, sizes)[output].data;
}
function countOf(terms: NonNullable<RowTolerance["terms"]>, c: Case<readonly unknown[]>): number {
  const count = terms as (...args: unknown[]) => number;
  return count(
    c.inputs.map((input) => input?.shape ?? []),
    ...(c.extra ?? []),
  );
}

/** How far a gradient in a dtype may be from the float64 one, relative to its norm. */
export function gradientLimit(
  c: Case<readonly unknown[]>,
  dtype: "float32" | "float64" | "bfloat16",
): number {
  const { gradient } = PRECISION[dtype] as Precision;
  if (dtype === "bfloat16" || c.gradientTolerance === undefined) return gradient;
  // an ill-conditioned case loses as many digits in either dtype
  return (gradient * c.gradientTolerance) / (PRECISION.float32 as Precision).gradient;
}
