/** Inputs of test cases: numbers that a dtype holds exactly, as arrays and as tensors. */
import { tensor } from "../../lib/ops/index.js";
import type { DType } from "../../lib/tensor/dtype.js";
import type { Device, Tensor } from "../../lib/tensor/tensor.js";
import type { InputSpec } from "../ops/table/row.js";
import { fromBfloat16 } from "./compare.js";
import { count, type NdArray, nd } from "./nd.js";
import type { Random } from "./random.js";

/** An array of the spec's shape and domain, rounded to the dtype. */
export function fill({ shape, domain = "normal" }: InputSpec, dtype: DType, random: Random): NdArray {
  const n = count(shape);
  const out = nd(shape);
  const order = domain === "distinct" ? random.permutation(n) : [];
  for (let k = 0; k < n; k++) {
    if (domain === "distinct") out.data[k] = 0.1 * (order[k] - n / 2) + 0.01;
    else if (typeof domain === "function") out.data[k] = domain(random, k);
    else out.data[k] = draw(domain, random);
  }
  const whole = dtype === "int32" || dtype === "int64" || dtype === "uint8";
  for (let k = 0; k < n; k++)
    out.data[k] = round(whole && typeof domain === "string" ? 3 * out.data[k] : out.data[k], dtype);
  return out;
}

function draw(domain: "normal" | "positive" | "nonzero" | "unit", random: Random): number {
  if (domain === "unit") return random.next();
  if (domain === "positive") return random.between(0.2, 3);
  return domain === "nonzero" ? random.sign() * random.between(0.2, 2) : random.between(-2, 2);
}

function round(value: number, dtype: DType): number {
  switch (dtype) {
    case "float32":
      return Math.fround(value);
    case "bfloat16":
      return fromBfloat16(upperHalf(value));
    case "bool":
      return Number(value > 0);
    case "uint8":
      return Math.min(255, Math.abs(Math.round(value)));
    case "float64":
      return value;
    default:
      return Math.round(value) + 0;
  }
}

function upperHalf(value: number): number {
  return new Uint32Array(new Float32Array([value]).buffer)[0] >>> 16;
}

/** An array rounded to the dtype; bfloat16 towards 0. */
export function roundTo({ shape, data }: NdArray, dtype: DType): NdArray {
  return nd(
    shape,
    data.map((value) => round(value, dtype)),
  );
}

/** A tensor of values that the dtype holds exactly; made from a typed array, so that conversion is not part of it. */
export function toTensor({ shape, data }: NdArray, dtype: DType, device: Device = "cpu"): Tensor {
  switch (dtype) {
    case "float32":
      return tensor(Float32Array.from(data), shape, { device });
    case "float64":
      return tensor(data.slice(), shape, { device });
    case "int32":
      return tensor(Int32Array.from(data), shape, { device });
    case "int64":
      return tensor(BigInt64Array.from(data, BigInt), shape, { device });
    case "uint8":
      return tensor(Uint8Array.from(data), shape, { device });
    case "bool":
      return tensor(Uint8Array.from(data), shape, { dtype, device });
    case "bfloat16":
      return tensor(Uint16Array.from(data, upperHalf), shape, { device });
  }
}
