/** Tensors from data, from constants and from random numbers. None of these is recorded. */

import { requireGrad } from "../autograd/backward.js";
import { DTYPES, type DType, isFloat, newArray, requireDType, type TensorData } from "../tensor/dtype.js";
import { type Draw, defaultGenerator, Generator } from "../tensor/random.js";
import { requireShape, type Shape, size } from "../tensor/shape.js";
import {
  type Device,
  fromTypedArray,
  type NestedArray,
  isTensor,
  requireDevice,
  type Tensor,
  type TensorSpec,
} from "../tensor/tensor.js";
import { requireInteger, requireNumber, requireOptions } from "../util/check.js";
import { ArgumentError, DTypeError, IndexError, ShapeError, show } from "../util/errors.js";
import { launch } from "./define.js";

export interface TensorOptions {
  dtype?: DType;
  device?: Device;
  requiresGrad?: boolean;
}
export interface RandomOptions extends TensorOptions {
  /** Default: the one that `manualSeed` sets. */
  generator?: Generator;
}

const KEYS = ["dtype", "device", "requiresGrad"];

function specOf(
  op: string,
  shape: unknown,
  options: TensorOptions | undefined,
  dtype: DType,
  keys = KEYS,
): TensorSpec {
  requireOptions(op, options, keys);
  return {
    shape: requireShape(op, shape),
    dtype: options?.dtype === undefined ? dtype : requireDType(op, options.dtype),
    device: requireDevice(op, options?.device ?? "cpu"),
  };
}

function finish(t: Tensor, options: TensorOptions | undefined): Tensor {
  return options?.requiresGrad ? requireGrad(t) : t;
}

/**
 * A tensor with a copy of `data`.
 * @param data   a number or boolean, nested arrays of them (all rows of one length), or a typed array
 * @param shape  needed only to give a typed or flat array another shape than [length]; may be left out:
 *               tensor(data, {dtype}) works too
 * Numbers become float32 unless `dtype` says otherwise; typed arrays keep their own type.
 * @throws {ShapeError} for ragged arrays or a shape that does not hold the data; {DTypeError} for numbers the dtype cannot hold
 */
export function tensor(
  data: NestedArray | TensorData | readonly bigint[],
  shape?: Shape | TensorOptions,
  options?: TensorOptions,
): Tensor {
  const op = "tensor";
  if (shape !== undefined && !Array.isArray(shape)) {
    options = shape as TensorOptions;
    shape = undefined;
  }
  const typed = ArrayBuffer.isView(data);
  const dims = typed ? [(data as TensorData).length] : arrayShape(op, data);
  const natural = typed ? typedArrayDType(op, data as TensorData) : isBoolean(data) ? "bool" : "float32";
  const spec = specOf(op, shape ?? dims, options, natural);
  if (size(spec.shape) !== size(dims))
    throw new ShapeError(op, "data does not fill the shape", `${size(dims)} elements`, show(spec.shape));
  const matches =
    typed && DTYPES[spec.dtype].Array === (data as TensorData).constructor && spec.dtype !== "bool";
  const flat = matches
    ? (data as TensorData)
    : convert(op, typed ? (data as TensorData) : flatten(data), spec.dtype, size(dims));
  return finish(fromTypedArray(op, flat, spec), options);
}

function isBoolean(data: unknown): boolean {
  while (Array.isArray(data)) data = data[0];
  return typeof data === "boolean";
}

function arrayShape(op: string, data: unknown): number[] {
  const dims: number[] = [];
  for (let level = data; Array.isArray(level); level = level[0]) {
    dims.push(level.length);
    if (dims.length > 6) break;
  }
  const check = (v: unknown, depth: number): void => {
    if (depth === dims.length) {
      if (typeof v === "number" || typeof v === "boolean" || typeof v === "bigint") return;
      throw new ArgumentError(op, "data is not valid", "numbers or booleans", show(v));
    }
    if (!Array.isArray(v) || v.length !== dims[depth])
      throw new ShapeError(op, "rows differ in length", `${dims[depth]} entries at depth ${depth}`, show(v));
    for (const item of v) check(item, depth + 1);
  };
  requireShape(op, dims);
  check(data, 0);
  return dims;
}

function flatten(data: unknown): (number | bigint)[] {
  return (Array.isArray(data) ? data.flat(6) : [data]) as (number | bigint)[];
}

function typedArrayDType(op: string, data: TensorData): DType {
  for (const dtype of ["float32", "float64", "int32", "int64", "uint8"] as const)
    if (data instanceof DTYPES[dtype].Array) return dtype;
  if (data instanceof Uint16Array) return "bfloat16";
  throw new DTypeError(
    op,
    "this kind of typed array has no dtype",
    "Float32Array, Float64Array, Int32Array, BigInt64Array, Uint8Array or Uint16Array (bfloat16)",
    show(data),
  );
}

const INTEGER_RANGE: Partial<Record<DType, [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int64: [-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint8: [0, 255],
};

function convert(
  op: string,
  values: ArrayLike<number | bigint | boolean>,
  dtype: DType,
  count: number,
): TensorData {
  const out = newArray(dtype, count);
  const range = INTEGER_RANGE[dtype];
  for (let k = 0; k < count; k++) {
    const raw = values[k];
    if (typeof raw === "bigint" && dtype === "int64") {
      if (BigInt.asIntN(64, raw) !== raw)
        throw new DTypeError(op, "a value does not fit", "int64", show(raw));
      (out as BigInt64Array)[k] = raw;
      continue;
    }
    const value = Number(raw);
    if (dtype === "bool") out[k] = value !== 0 ? 1 : 0;
    else if (dtype === "bfloat16") out[k] = bfloat16Bits(value);
    else if (!range) out[k] = value;
    else if (!Number.isInteger(value) || value < range[0] || value > range[1])
      throw new DTypeError(op, "a value does not fit", dtype, show(raw));
    else if (dtype === "int64") (out as BigInt64Array)[k] = BigInt(value);
    else out[k] = value;
  }
  return out;
}

/** The upper half of the float32 nearest to `value`, rounded to nearest even. */
function bfloat16Bits(value: number): number {
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0];
  if (Number.isNaN(value)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** A tensor of one value. */
export function full(shape: Shape, value: number, options?: TensorOptions): Tensor {
  const spec = specOf("full", shape, options, "float32");
  if (typeof value !== "number")
    throw new ArgumentError("full", "value is not valid", "a number", show(value));
  const range = INTEGER_RANGE[spec.dtype];
  if (range && (!Number.isInteger(value) || value < range[0] || value > range[1]))
    throw new DTypeError("full", "the value does not fit", spec.dtype, show(value));
  return finish(fill(spec, value), options);
}

/** The unchecked form of {@link full}, for other ops. */
export function fill(spec: TensorSpec, value: number): Tensor {
  return launch("fill_fwd", [], [spec], [value])[0];
}

export function zeros(shape: Shape, options?: TensorOptions): Tensor {
  return finish(fill(specOf("zeros", shape, options, "float32"), 0), options);
}

export function ones(shape: Shape, options?: TensorOptions): Tensor {
  return finish(fill(specOf("ones", shape, options, "float32"), 1), options);
}

/**
 * The numbers start, start + step, ... below end: [ceil((end - start) / step)] of them. `arange(n)` counts from 0.
 * int64 by default if all arguments are whole, else float32.
 */
export function arange(start: number, end?: number, step = 1, options?: TensorOptions): Tensor {
  const op = "arange";
  requireNumber(op, "start", start);
  const [from, to] = end === undefined || end === null ? [0, start] : [start, requireNumber(op, "end", end)];
  if (requireNumber(op, "step", step) === 0)
    throw new ArgumentError(op, "step is not valid", "a number other than 0", "0");
  const count = Math.max(0, Math.ceil((to - from) / step));
  const spec = specOf(op, [count], options, [from, to, step].every(Number.isInteger) ? "int64" : "float32");
  return finish(launch("arange_fwd", [], [spec], [from, step])[0], options);
}

/** The given generator, or the one that `manualSeed` sets. */
export function requireGenerator(op: string, generator: unknown): Generator {
  if (generator === undefined || generator === null) return defaultGenerator;
  if (!(generator instanceof Generator))
    throw new ArgumentError(op, "generator is not valid", "a Generator", show(generator));
  return generator;
}

/** Random numbers of one kernel: uniform_fwd, normal_fwd or gumbel_fwd. */
export function draw(kernel: string, spec: TensorSpec, key: Draw): Tensor {
  return launch(kernel, [], [spec], [key.seed, key.stream, key.counter])[0];
}

function random(op: string, kernel: string, shape: Shape, options: RandomOptions | undefined): Tensor {
  const spec = specOf(op, shape, options, "float32", [...KEYS, "generator"]);
  if (!isFloat(spec.dtype))
    throw new DTypeError(op, "draws floating numbers", "float32 or float64", spec.dtype);
  return finish(draw(kernel, spec, requireGenerator(op, options?.generator).next()), options);
}

/** Uniform in [0, 1). */
export function rand(shape: Shape, options?: RandomOptions): Tensor {
  return random("rand", "uniform_fwd", shape, options);
}

/** Standard normal (Box-Muller). */
export function randn(shape: Shape, options?: RandomOptions): Tensor {
  return random("randn", "normal_fwd", shape, options);
}

/** Standard Gumbel: -log(-log U). */
export function randGumbel(shape: Shape, options?: RandomOptions): Tensor {
  return random("randGumbel", "gumbel_fwd", shape, options);
}

/**
 * One-hot vectors: index [...] -> [..., classes], on the index's device.
 * @throws {IndexError} for an index outside of [0, classes)
 */
export function oneHot(index: Tensor, classes: number, options?: TensorOptions): Tensor {
  const op = "oneHot";
  requireInteger(op, "classes", classes, 1, 2 ** 31 - 1);
  if (!isTensor(index)) throw new ArgumentError(op, "index is not a tensor", "a Tensor", show(index));
  if (index.dtype !== "int32" && index.dtype !== "int64")
    throw new DTypeError(op, "index must be whole numbers", "int32 or int64", index.dtype);
  requireOptions(op, options, KEYS);
  const spec = specOf(op, [...index.shape, classes], { device: index.device, ...options }, "float32");
  try {
    return launch("one_hot_fwd", [index], [spec])[0];
  } catch (error) {
    if (error instanceof IndexError) throw new IndexError(op, error.message.replace(/^[^:]*: /, ""));
    throw error;
  }
}
