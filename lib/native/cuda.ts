import { addon, type CudaInfo } from "./addon.js";

let info: CudaInfo | undefined;

/** The CUDA device of this machine, looked for at the first call, or the reason why there is none. */
export function cudaInfo(): CudaInfo {
  info ??= addon.cudaInfo();
  return info;
}

/** Whether programs can use the device `cuda` here. */
export function cudaAvailable(): boolean {
  return cudaInfo().available;
}
