import type { DType, TensorData } from "../../tensor/dtype.js";
import { ELEMENT_BYTES, type ElementType, type TorchTensor } from "./objects.js";

interface Elements {
  array: new (buffer: ArrayBuffer, offset: number, length: number) => TensorData | Int8Array | Int16Array;
  /** What they become: the engine has no float16 and no short integers, so these widen, which keeps every value. */
  dtype: DType;
}

const ELEMENTS: Record<ElementType, Elements> = {
  float64: { array: Float64Array, dtype: "float64" },
  float32: { array: Float32Array, dtype: "float32" },
  float16: { array: Uint16Array, dtype: "float32" },
  bfloat16: { array: Uint16Array, dtype: "bfloat16" },
  int64: { array: BigInt64Array, dtype: "int64" },
  int32: { array: Int32Array, dtype: "int32" },
  int16: { array: Int16Array, dtype: "int32" },
  int8: { array: Int8Array, dtype: "int32" },
  uint8: { array: Uint8Array, dtype: "uint8" },
  bool: { array: Uint8Array, dtype: "bool" },
};

/** The tensor's elements, row by row, from the bytes of its storage. */
export function elementsOf(
  tensor: TorchTensor,
  bytes: Uint8Array<ArrayBuffer>,
): { data: TensorData; dtype: DType } {
  const { array, dtype } = ELEMENTS[tensor.dtype];
  const whole = Math.floor(bytes.byteLength / ELEMENT_BYTES[tensor.dtype]); // an untyped storage may end with a part of one
  const gathered = gather(new array(bytes.buffer, 0, whole), tensor);
  switch (tensor.dtype) {
    case "float16":
      return { data: Float32Array.from(gathered as Uint16Array, halfToFloat), dtype };
    case "int16":
    case "int8":
      return { data: Int32Array.from(gathered as Int16Array), dtype };
    case "bool":
      return { data: (gathered as Uint8Array).map((value) => (value === 0 ? 0 : 1)), dtype };
    default:
      return { data: gathered as TensorData, dtype };
  }
}

/** A copy of the elements that a view names, in its order. */
function gather<T extends TensorData | Int8Array | Int16Array>(
  stored: T,
  { shape, strides, offset, size }: TorchTensor,
): T {
  let step = 1;
  let contiguous = true;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    contiguous &&= shape[axis] === 1 || strides[axis] === step;
    step *= shape[axis];
  }
  if (contiguous || size === 0) return stored.slice(offset, offset + size) as T;
  const result = new (stored.constructor as new (length: number) => T)(size);
  const index = new Array<number>(shape.length).fill(0);
  let at = offset;
  for (let k = 0; k < size; k++) {
    result[k] = stored[at];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis];
      if (++index[axis] < shape[axis]) break;
      at -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return result;
}

/** The value of a 16-bit float: 1 sign, 5 exponent, 10 fraction bits. */
function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
