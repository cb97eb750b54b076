/** One case of one row, in one dtype on one device: its inputs as arrays and as tensors, its call and its reference. */
import * as ops from "../../../lib/ops/index.js";
import type { DType } from "../../../lib/tensor/dtype.js";
import type { Device, Tensor } from "../../../lib/tensor/tensor.js";
import { fill, toTensor } from "../../helpers/inputs.js";
import type { NdArray } from "../../helpers/nd.js";
import { Random } from "../../helpers/random.js";
import { type Case, FLOATS, type OpRow } from "./row.js";

export type AnyCase = Case<readonly unknown[]>;
export type AnyOp = (...args: unknown[]) => Tensor | Tensor[];
/** Absent inputs are null. */
export type Arrays = readonly (NdArray | null)[];
export type Tensors = readonly (Tensor | null)[];

export interface Run {
  row: OpRow;
  c: AnyCase;
  dtype: DType;
  device: Device;
}

const exported = ops as unknown as Record<string, AnyOp>;

/** Op, shapes and arguments: what runs of a case have in common. */
export function nameOf({ row, c }: Pick<Run, "row" | "c">): string {
  const shapes = c.inputs.map((input) => (input ? `[${input.shape.join(", ")}]` : "none")).join(" ");
  const extra = (c.extra ?? []).map((value) => JSON.stringify(value)).join(" ");
  return `${row.op} ${shapes} ${extra.slice(0, 80)}`;
}
export function describeRun(run: Run): string {
  return `${run.device} ${run.dtype}: ${nameOf(run)}`;
}

/** Whether a device computes a row in bfloat16 that the CPU computes in floats only. */
export function gainsBfloat16(row: OpRow, device: Device): boolean {
  return (
    device === "cuda" &&
    !row.noBfloat16 &&
    FLOATS.every((dtype) => row.dtypes.includes(dtype)) &&
    !row.dtypes.includes("bfloat16") &&
    row.cases.some(({ inputs }) => inputs.length > 0)
  );
}
export function dtypesOf(row: OpRow, device: Device): readonly DType[] {
  return gainsBfloat16(row, device) ? [...row.dtypes, "bfloat16"] : row.dtypes;
}

/** Whether a case is run in a dtype; in bfloat16 where it is in floats. */
export function includes({ row, c, dtype, device }: Run): boolean {
  const dtypes = c.dtypes ?? row.dtypes;
  if (dtype !== "bfloat16" || !gainsBfloat16(row, device)) return dtypes.includes(dtype);
  return c.bfloat16 !== false && FLOATS.every((float) => dtypes.includes(float));
}

/** The dtype of an input. Absent ones have none of their own. */
export function inputDType({ row, c, dtype }: Run, place: number): DType {
  const parameter = dtype === "bfloat16" && row.parameters?.includes(place);
  return c.inputs[place]?.dtype ?? (parameter ? "float32" : dtype);
}

/** The inputs: the same float64 numbers for every dtype and device, rounded to the dtype. */
export function arraysOf(run: Run): Arrays {
  const random = new Random(nameOf(run));
  return run.c.inputs.map((input, k) => input && fill(input, inputDType(run, k), random));
}
export function tensorsOf(run: Run, arrays: Arrays): Tensors {
  return run.c.inputs.map(
    (input, k) => input && toTensor(arrays[k] as NdArray, inputDType(run, k), run.device),
  );
}

export function argumentsOf({ row, c, dtype, device }: Run, tensors: Tensors): unknown[] {
  const extra = c.extra ?? [];
  return row.args ? row.args(tensors, extra, dtype, device) : [...tensors, ...extra];
}
export function call(run: Run, tensors: Tensors): Tensor[] {
  return [exported[run.row.op](...argumentsOf(run, tensors))].flat();
}
/** Several outputs in one tensor. */
export function joined(outputs: Tensor[]): Tensor {
  return outputs.length === 1 ? outputs[0] : ops.concat(outputs.map((t) => ops.reshape(t, [-1])));
}

export function reference({ row, c }: Pick<Run, "row" | "c">, arrays: Arrays): NdArray[] {
  return [row.reference(arrays as readonly NdArray[], ...(c.extra ?? []))].flat();
}
