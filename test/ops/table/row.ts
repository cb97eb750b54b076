/** What a row of the op table is. The driver (test/ops/table.test.ts) makes all checks of an op from its row. */
import type { DType } from "../../../lib/tensor/dtype.js";
import type { Device, Tensor } from "../../../lib/tensor/tensor.js";
import type { NdArray } from "../../helpers/nd.js";
import type { Random } from "../../helpers/random.js";

/**
 * Where an input's values lie: `normal` within [-2, 2], `positive` within [0.2, 3], `nonzero` like normal but 0.2 away from 0,
 * `distinct` 0.1 apart from each other, `unit` within [0, 1], or a function of the element's place. For integer dtypes they
 * become small whole numbers.
 */
export type Domain =
  | "normal"
  | "positive"
  | "nonzero"
  | "distinct"
  | "unit"
  | ((random: Random, k: number) => number);

export interface InputSpec {
  shape: readonly number[];
  domain?: Domain;
  /** A dtype of its own, such as that of an index; such an input gets no gradient. */
  dtype?: DType;
}

export interface Case<E extends readonly unknown[]> {
  inputs: readonly (InputSpec | null)[];
  /** Arguments after the tensors. */
  extra?: E;
  /** Default: where there are at most 40 input and 40 output elements. */
  gradcheck?: boolean;
  /** Default: those of the row. */
  dtypes?: readonly DType[];
  /** Whether it is run in bfloat16 too, on devices that compute in it. Default true. */
  bfloat16?: boolean;
  /** Default: that of the row. */
  tolerance?: RowTolerance;
  /** How far a float32 gradient may be from the float64 one, relative to its norm. Default 1e-5. */
  gradientTolerance?: number;
}

/** How far a float32 value may be from the float64 reference; other dtypes scale it by their own precision (tolerance.ts). */
export interface RowTolerance {
  /** Relative to the value, in units of 2^-23. */
  ulp?: number;
  /** Relative to the largest value of the output, in units of 2^-23: for ops whose elements depend on each other. */
  ofLargest?: number;
  /**
   * The number K of terms that add up to an element: 2 sqrt(K) 2^-24 sum |terms| is allowed, which random rounding errors stay
   * within. The sum of |terms| is the reference of the inputs' absolute values.
   */
  terms?: (shapes: readonly (readonly number[])[], ...extra: never[]) => number;
  /** Of functions of one element: an error of float32 results that is allowed besides. */
  slack?: (x: number) => number;
}

export interface ErrorCase {
  what: string;
  call: () => unknown;
  error: new (...args: never[]) => Error;
}

export interface OpRow<E extends readonly unknown[] = readonly unknown[]> {
  /** The exported name. */
  op: string;
  /** Float64, by plain loops. Absent inputs are null. */
  reference(inputs: readonly NdArray[], ...extra: E): NdArray | NdArray[];
  /** The arguments of a call; default: the tensors, then `extra`. Tensors that the op makes belong on the device. */
  args?(inputs: readonly (Tensor | null)[], extra: E, dtype: DType, device: Device): unknown[];
  cases: readonly Case<E>[];
  /** Dtypes of the inputs that have none of their own; every other dtype must be refused. */
  dtypes: readonly DType[];
  /** Inputs, by place, that are parameters: float32 where the data is bfloat16. */
  parameters?: readonly number[];
  /** Whether a device that computes in bfloat16 has no bfloat16 form of it all the same. Default false. */
  noBfloat16?: boolean;
  /** Default: that of the inputs. */
  output?(dtype: DType, ...extra: E): DType;
  /** Where the output is. Default: where the inputs are. */
  device?(device: Device, ...extra: E): Device;
  /** Absent: exact. */
  tolerance?: RowTolerance;
  /** Inputs, by place, that gradients are checked for. Default: all without a dtype of their own. Empty: the op has none. */
  gradients?: readonly number[];
  /** Whether another dtype is refused. Default true. */
  refusesDTypes?: boolean;
  errors: readonly ErrorCase[];
  /** Whether it is a method of Tensor. Default true. */
  method?: boolean;
  /** The function of one element that the op maps over a tensor: checked over the whole range of float32 and at special values. */
  unary?: (x: number) => number;
  /** The same of two elements. */
  binary?: (a: number, b: number) => number;
  /** Whether -0 and 0 are told apart in the results of special values. Default true. */
  signedZero?: boolean;
}

/** A row with its extra arguments typed. */
export function row<E extends readonly unknown[]>(definition: OpRow<E>): OpRow {
  return definition as unknown as OpRow;
}

export const FLOATS: readonly DType[] = ["float32", "float64"];
export const NUMBERS: readonly DType[] = ["float32", "float64", "int32", "int64", "uint8"];
export const SUMMABLE: readonly DType[] = [...NUMBERS, "bool"];
export const ALL: readonly DType[] = [...NUMBERS, "bool", "bfloat16"];

/** Odd sizes around the vector widths, empty ones, and every rank from 0 to 6. */
export const SHAPES: readonly (readonly number[])[] = [
  [],
  [1],
  [2],
  [7],
  [8],
  [31],
  [32],
  [33],
  [65],
  [127],
  [257],
  [0],
  [0, 3],
  [2, 0, 3],
  [3, 5],
  [1, 37],
  [2, 3, 4],
  [2, 1, 3, 2],
  [2, 1, 2, 1, 3],
  [1, 2, 1, 3, 1, 2],
  [5, 127],
  [64, 65],
];

/** Of height and width, or one number for both. */
export type Pair = number | [number, number];
export const pair = (value: Pair): [number, number] => (typeof value === "number" ? [value, value] : value);
