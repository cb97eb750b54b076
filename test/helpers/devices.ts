/** The devices that tests run on: those that this machine has, or those of them that QUADMAMBA_TEST_DEVICES names. */
import type { Test } from "uvu";
import { cudaInfo } from "../../lib/native/cuda.js";
import type { Device } from "../../lib/tensor/tensor.js";
import { chosen } from "./environment.js";

const ALL: readonly Device[] = ["cpu", "cuda"];
const named = chosen("QUADMAMBA_TEST_DEVICES", ALL);

/** Why no test runs on a device. */
function absence(device: Device): string | undefined {
  if (named && !named.includes(device)) return `${device} is not in QUADMAMBA_TEST_DEVICES`;
  const info = cudaInfo();
  return device === "cpu" || info.available ? undefined : `no CUDA device: ${info.reason}`;
}

export const DEVICES: readonly Device[] = ALL.filter((device) => absence(device) === undefined);

// asked for by name, a device that is not there is no reason to skip
for (const device of named ?? [])
  if (!DEVICES.includes(device)) throw new Error(`QUADMAMBA_TEST_DEVICES: ${absence(device)}`);
for (const device of ALL) {
  const reason = absence(device);
  if (reason) console.log(`  skipped: ${reason}`);
}

/** Adds a test to a suite, or counts it as skipped where nothing runs on the device. */
export function on(test: Test, device: Device, name: string, body: () => void | Promise<void>): void {
  if (DEVICES.includes(device)) test(`${device}: ${name}`, body);
  else test.skip(name);
}

/** The same for every device. */
export function onEach(test: Test, name: string, body: (device: Device) => void): void {
  for (const device of ALL) on(test, device, name, () => body(device));
}
