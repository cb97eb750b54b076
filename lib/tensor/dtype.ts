import { DTypeError, show } from "../util/errors.js";

export type DType = "float32" | "float64" | "int32" | "int64" | "uint8" | "bool" | "bfloat16";
export type TensorData = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array | Uint16Array;

interface DTypeFacts {
  /** The number in native/core/dtype.h. */
  code: number;
  bytes: number;
  Array: new (lengthOrData: never) => TensorData;
  float: boolean;
}

/** bfloat16 is storage: its typed array holds the raw upper halves of float32 values. */
export const DTYPES: Record<DType, DTypeFacts> = {
  float32: { code: 0, bytes: 4, Array: Float32Array, float: true },
  float64: { code: 1, bytes: 8, Array: Float64Array, float: true },
  int32: { code: 2, bytes: 4, Array: Int32Array, float: false },
  int64: { code: 3, bytes: 8, Array: BigInt64Array, float: false },
  uint8: { code: 4, bytes: 1, Array: Uint8Array, float: false },
  bool: { code: 5, bytes: 1, Array: Uint8Array, float: false },
  bfloat16: { code: 6, bytes: 2, Array: Uint16Array, float: false },
};

export function requireDType(op: string, dtype: unknown): DType {
  // what every object inherits has no code
  if (typeof dtype === "string" && DTYPES[dtype as DType]?.code !== undefined) return dtype as DType;
  throw new DTypeError(op, "unknown dtype", `one of ${Object.keys(DTYPES).join(", ")}`, show(dtype));
}

/** float32 or float64: the dtypes that arithmetic and gradients run in on every device. */
export function isFloat(dtype: DType): boolean {
  return DTYPES[dtype].float;
}

/** Whether numbers of this dtype can have gradients: floats, and bfloat16 (which computes on CUDA only). */
export function isDifferentiable(dtype: DType): boolean {
  return isFloat(dtype) || dtype === "bfloat16";
}

/** The dtype of parameters, statistics and sums beside data of a dtype: float32 beside bfloat16, else the same. */
export function parameterDType(dtype: DType): DType {
  return dtype === "bfloat16" ? "float32" : dtype;
}

export function newArray(dtype: DType, length: number): TensorData {
  return new DTYPES[dtype].Array(length as never);
}
