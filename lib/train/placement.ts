import { cast } from "../ops/index.js";
import { allowTf32 } from "../tensor/memory.js";
import { type Device, requireDevice, type Tensor } from "../tensor/tensor.js";
import { requireOneOf } from "../util/check.js";
import { DeviceError } from "../util/errors.js";

/**
 * `tf32`: float32 whose products run on the tensor cores with operands rounded to 10 bits; on CUDA only.
 * `bf16`: data in bfloat16 with float32 parameters, scan states, statistics and losses; on CUDA only. No loss scaling is needed:
 * bfloat16 has the range of float32.
 */
export type Precision = "fp32" | "tf32" | "bf16";
export const PRECISIONS: readonly Precision[] = ["fp32", "tf32", "bf16"];

/** Where a model computes, and how. */
export interface Placement {
  device: Device;
  precision: Precision;
}

/** Checks a placement and sets the device to it. @throws {DeviceError} if this machine has no such device, or it has no such precision */
export function requirePlacement(op: string, { device, precision }: Placement): Placement {
  requireDevice(op, device);
  requireOneOf(op, "precision", precision, PRECISIONS);
  if (device === "cpu" && precision !== "fp32")
    throw new DeviceError(op, "the CPU computes in fp32 only", "precision fp32, or device cuda", precision);
  if (device === "cuda") allowTf32(precision === "tf32");
  return { device, precision };
}

/** Images on the device in the dtype that the model is to compute in. */
export function inPrecision(images: Tensor, precision: Precision): Tensor {
  return precision === "bf16" ? cast(images, "bfloat16") : images;
}
