/**
 * Finds and loads the addon, and gives its few functions types. Everything above this folder speaks of tensors and
 * kernels by name; nothing above it sees the binary.
 */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  ArgumentError,
  DeviceError,
  DisposedError,
  DTypeError,
  IndexError,
  NativeError,
  OutOfMemoryError,
  QuadMambaError,
  ShapeError,
} from "../util/errors.js";

export interface KernelInfo {
  name: string;
  /** -1: any number. */
  inputs: number;
  outputs: number;
  /** `name:kind` pairs; kinds are i (integer), f (number), b (flag), v (list of integers). */
  attrs: string;
}

export interface AddonInfo {
  abi: number;
  /** Instruction set in use. */
  isa: string;
  /** Instruction sets that this build and processor share, best first. */
  supported: string[];
  threads: number;
  compiler: string;
  sanitized: number;
  /** The library that decodes parts of JPEG files, or "" if the build found none. */
  jpeg: string;
  ops: KernelInfo[];
}

/** What the calls of one kernel have cost. */
export interface OpCost {
  name: string;
  calls: number;
  milliseconds: number;
  /** Of all inputs and outputs, each once: the least that must move. */
  bytes: number;
}

/** The CUDA device, or the reason why there is none. */
export type CudaInfo =
  | {
      available: true;
      name: string;
      /** Compute capability, such as "9.0". */
      capability: string;
      multiprocessors: number;
      /** CUDA versions: what the driver serves and what the addon was built with, 1000 major + 10 minor. */
      driver: number;
      runtime: number;
      /** Architectures of this build. */
      builtFor: string;
      /** Bytes in all, and free when the device was opened. */
      memory: number;
      free: number;
    }
  | { available: false; reason: string };

export interface NativeStats {
  liveTensors: number;
  liveBytes: number;
  peakBytes: number;
  cachedBytes: number;
  reservedBytes: number;
  budget: number;
}

type Data = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array | Uint16Array;

interface Addon {
  /** The one array that calls are written into, with room for at least `size` numbers; a larger one replaces it. */
  record(size: number): Float64Array;
  /** Runs the call that the first `size` numbers of the record describe. */
  run(size: number): void;
  create(dtype: number, device: number, dims: Float64Array, data: Data): number;
  view(handle: number, dims: Float64Array): number;
  retain(handle: number): number;
  release(handle: number): void;
  refs(handle: number): number;
  read(handle: number, into: Data): void;
  write(handle: number, from: Data): void;
  transfer(handle: number, device: number): number;
  stats(device: number): NativeStats;
  setBudget(bytes: number, device: number): void;
  resetPeak(device: number): void;
  emptyCache(device: number): void;
  synchronize(device: number): void;
  beginCapture(device: number): void;
  endCapture(device: number): number;
  abortCapture(device: number): void;
  replay(device: number, graph: number, draws: number): void;
  dropGraph(device: number, graph: number): void;
  recordEvent(device: number): number;
  millisecondsBetween(device: number, begin: number, end: number): number;
  allowTf32(device: number, on: number): void;
  /** Launches a kernel that cannot run, for tests of how that is reported. */
  badLaunch(device: number): void;
  beginProfile(device: number): void;
  endProfile(device: number): OpCost[];
  cudaInfo(): CudaInfo;
  setThreads(n: number): void;
  describe(): AddonInfo;
  /** For benches: fused multiply-adds in registers, on all threads; returns the floating-point operations done. */
  multiplyAdds(dtype: number, rounds: number): number;
  /**
   * For benches: the selective scan as a plain loop on one thread (native/binding/bench.h has the arguments).
   * @param arrays u, delta, A, B, C, y, h; for backward also dy, du, ddelta, dA, dB, dC
   */
  plainScan<T extends Float32Array | Float64Array>(sizes: Float64Array, ...arrays: T[]): void;
  /** [height, width]; undefined for what is left to other decoders. */
  jpegSize(file: Uint8Array): Float64Array | undefined;
  /** @param part top, left, height, width @param out [height, width, 3] @returns what is wrong with the file, or "" */
  jpegPart(file: Uint8Array, part: Float64Array, out: Uint8Array): string;
  /** [rows, width, channels] -> [rows, starts.length, channels]; native/image/resample.h has the taps. */
  resampleColumns(
    image: Uint8Array,
    sizes: Float64Array,
    starts: Int32Array,
    counts: Int32Array,
    weights: Int32Array,
    out: Uint8Array,
  ): void;
  /** [rows, rowBytes] -> [starts.length, rowBytes] */
  resampleRows(
    image: Uint8Array,
    sizes: Float64Array,
    starts: Int32Array,
    counts: Int32Array,
    weights: Int32Array,
    out: Uint8Array,
  ): void;
  /** The pages of a file, unmapped when the buffer is collected. Writes stay in the process. */
  mapFile(path: string): ArrayBuffer;
}

const ABI = 4;

/** The package folder: the nearest one above this file with a package.json. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) {
    const parent = dirname(folder);
    if (parent === folder)
      throw new NativeError("addon", "package.json was not found above the compiled library");
    folder = parent;
  }
  return folder;
}

function load(): Addon {
  const root = packageRoot();
  const override = process.env.QUADMAMBA_ADDON;
  const candidates = override ? [override] : [join(root, "build/Release/quadmamba.node")];
  const failures: string[] = [];
  for (const path of candidates) {
    try {
      const addon = createRequire(import.meta.url)(path) as Addon;
      const { abi } = addon.describe();
      if (abi === ABI) return addon;
      failures.push(`${path}: interface version ${abi}, this library needs ${ABI}`);
    } catch (error) {
      failures.push(`${path}: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`);
    }
  }
  throw new NativeError(
    "addon",
    `could not be loaded\n${failures.map((f) => `  tried ${f}`).join("\n")}\n  to fix: run \`npm run build\` in ${root}; ` +
      "if QUADMAMBA_ADDON or QUADMAMBA_ISA is set, check its value",
  );
}

export const addon: Addon = load();
export const addonInfo: AddonInfo = addon.describe();

const CLASSES = {
  argument: ArgumentError,
  shape: ShapeError,
  dtype: DTypeError,
  device: DeviceError,
  index: IndexError,
  disposed: DisposedError,
  out_of_memory: OutOfMemoryError,
  native: NativeError,
};

/** A native error as the typed error of its kind. `op` is put in front unless the message names its own. */
export function translate(op: string, error: unknown): QuadMambaError {
  if (error instanceof QuadMambaError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const kind = (error as { kind?: string } | null)?.kind;
  const ErrorClass = kind && kind in CLASSES ? CLASSES[kind as keyof typeof CLASSES] : NativeError;
  const [, named, rest] = /^([A-Za-z][A-Za-z0-9_]*): ([\s\S]*)$/.exec(message) ?? [null, op, message];
  return new ErrorClass(named as string, rest as string);
}

/** The version in package.json. */
export function packageVersion(): string {
  return (
    JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as {
      version: string;
    }
  ).version;
}
