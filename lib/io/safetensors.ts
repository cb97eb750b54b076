/** Tensors in safetensors files. */
import { DTYPES, type DType, newArray, type TensorData } from "../tensor/dtype.js";
import { fromTypedArray, requireTensor, type Tensor } from "../tensor/tensor.js";
import { ArgumentError, FileError, show } from "../util/errors.js";
import { readSafetensorsFile, type SafetensorsTensor, writeSafetensorsFile } from "./safetensors_file.js";

const NAMES: Record<DType, string> = {
  float32: "F32",
  float64: "F64",
  int32: "I32",
  int64: "I64",
  uint8: "U8",
  bool: "BOOL",
  bfloat16: "BF16",
};

/**
 * Reads a file whole.
 * @returns tensors by name, and the file's metadata
 * @throws {FileError} naming the path, for a file that is missing, damaged, or holds a dtype that tensors do not have
 */
export function loadSafetensors(path: string): {
  tensors: Map<string, Tensor>;
  metadata: Map<string, string>;
} {
  if (typeof path !== "string")
    throw new ArgumentError("loadSafetensors", "path is not valid", "a string", show(path));
  const { tensors, metadata } = readSafetensorsFile(path);
  for (const [name, { dtype }] of tensors) dtypeOf(path, name, dtype);
  const loaded = new Map<string, Tensor>();
  try {
    for (const [name, { dtype, shape, bytes }] of tensors) {
      const own = dtypeOf(path, name, dtype);
      const data = newArray(own, bytes.byteLength / DTYPES[own].bytes);
      new Uint8Array(data.buffer).set(bytes);
      if (own === "bool") for (let k = 0; k < data.length; k++) if (data[k] !== 0) data[k] = 1;
      loaded.set(
        name,
        fromTypedArray("loadSafetensors", data, {
          shape,
          dtype: own,
          device: "cpu",
        }),
      );
    }
  } catch (error) {
    for (const t of loaded.values()) t.dispose();
    throw error;
  }
  return { tensors: loaded, metadata };
}

function dtypeOf(path: string, name: string, stored: string): DType {
  const found = (Object.keys(NAMES) as DType[]).find((dtype) => NAMES[dtype] === stored);
  if (!found)
    throw new FileError(
      "loadSafetensors",
      `${path}: tensor ${show(name)} has a dtype without a tensor form`,
      Object.values(NAMES).join(", "),
      stored,
    );
  return found;
}

/**
 * Writes tensors to a file, atomically: it is there whole, or as it was before.
 * @param metadata string values by name
 * @throws {FileError} naming the path and the cause, if the file cannot be written
 */
export function saveSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor> | Record<string, Tensor>,
  metadata: ReadonlyMap<string, string> | Record<string, string> = {},
): void {
  const op = "saveSafetensors";
  if (typeof path !== "string") throw new ArgumentError(op, "path is not valid", "a string", show(path));
  if (tensors === null || typeof tensors !== "object")
    throw new ArgumentError(op, "tensors are not valid", "a Map or an object", show(tensors));
  if (metadata === null || typeof metadata !== "object")
    throw new ArgumentError(op, "metadata is not valid", "a Map or an object of strings", show(metadata));
  const entries = tensors instanceof Map ? [...tensors] : Object.entries(tensors);
  const stored = entries.map(([name, t]): [string, SafetensorsTensor] => {
    const data: TensorData = requireTensor(op, show(name), t).toTypedArray();
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return [
      name,
      {
        dtype: NAMES[(t as Tensor).dtype],
        shape: [...(t as Tensor).shape],
        bytes,
      },
    ];
  });
  writeSafetensorsFile(path, new Map(stored), metadata);
}
