/** `quadmamba bench scan`: times the selective scan over a grid of shapes, after checking each result. */
import { getThreads, setThreads } from "../tensor/memory.js";
import { type Device, requireDevice } from "../tensor/tensor.js";
import { ConfigError, DeviceError, NativeError } from "../util/errors.js";
import { type Ceilings, describeCeilings, measureCeilings } from "./ceilings.js";
import { describeMachine, machine } from "./machine.js";
import type { Floats } from "./plain_scan.js";
import {
  type Pass,
  SCAN_VARIANTS,
  ScanCase,
  type ScanDType,
  type ScanShape,
  type ScanVariant,
  scanCost,
  scanElements,
} from "./scan_case.js";
import { scanTableHead, scanTableLine } from "./scan_table.js";
import { EFFORT, type Effort, type Timing, timeCalls } from "./timing.js";

/** Every combination is timed. */
export interface ScanGrid {
  batch: number[];
  channels: number[];
  length: number[];
  states: number[];
  directions: number[];
  dtype: ScanDType[];
  pass: Pass[];
  /** On the CPU; none for the number in use. */
  threads: number[];
  device: Device;
}

export interface ScanRow extends Timing, ScanShape {
  group: "scan";
  /** Names the row in `npm run bench:compare`. */
  name: string;
  variant: ScanVariant;
  pass: Pass;
  threads: number;
  nsPerElement: number;
  bytes: number;
  flops: number;
  bytesPerSecond: number;
  flopsPerSecond: number;
  /** Of the ceilings; not for loops that run on the host beside a GPU. */
  shareOfCopy?: number;
  shareOfPeak?: number;
  /** How many times the fused kernel's time. */
  timesFused: number;
  /** Largest difference from the plain loop in float64, over the largest entry of its array. */
  error: number;
}

export interface ScanSweep {
  machine: Record<string, unknown>;
  settings: Record<string, unknown>;
  ceilings: (Ceilings & { dtype: string })[];
  rows: ScanRow[];
}

/** Sums over batch and length, added up one by one in the plain loops, are the worst: 1e-5 at 260 000 terms. */
const TOLERANCE: Record<ScanDType, number> = { float32: 5e-4, float64: 1e-11, bfloat16: 2e-2 };
/** Of states over all steps: backward of the float64 reference keeps them all. */
const MOST_ELEMENTS = 2 ** 28;

/**
 * @param say gets the report, line by line
 * @throws {NativeError} if a result is wrong; {DeviceError} for a device or a dtype that is not there
 */
export function sweepScan(grid: ScanGrid, say: (line: string) => void, effort = EFFORT): ScanSweep {
  requireGrid(grid);
  const { device } = grid;
  const before = getThreads();
  const sweep: ScanSweep = {
    machine: machine(device),
    settings: settings(grid, effort),
    ceilings: [],
    rows: [],
  };
  say(describeMachine(sweep.machine));
  say(
    `medians of ${effort.fewest} to ${effort.most} repetitions after a warm-up, and p10-p90; ns per update of a state; bytes: inputs and outputs once; plain loops: one thread of the host`,
  );
  try {
    for (const threads of grid.threads.length > 0 ? grid.threads : [before]) {
      setThreads(threads);
      for (const dtype of grid.dtype) {
        const computed = dtype === "float64" ? "float64" : "float32";
        const ceilings = measureCeilings(device, computed, effort);
        sweep.ceilings.push({ dtype, ...ceilings });
        say(`\n${dtype}, ${describeCeilings(ceilings)}`);
        for (const shape of shapes(grid, dtype))
          sweep.rows.push(...timeShape(shape, { passes: grid.pass, ceilings, effort, say }));
      }
    }
  } finally {
    setThreads(before);
  }
  return sweep;
}

function requireGrid({ device, dtype, threads, ...sizes }: ScanGrid): void {
  const op = "bench scan";
  requireDevice(op, device);
  if (device === "cpu" && dtype.includes("bfloat16"))
    throw new DeviceError(
      op,
      "the CPU does not compute in bfloat16",
      "float32, float64, or device cuda",
      "bfloat16",
    );
  if (device === "cuda" && threads.length > 0)
    throw new ConfigError(
      op,
      "threads are those of the CPU",
      "no --threads with device cuda",
      String(threads),
    );
  const largest = (list: number[]) => Math.max(...list);
  const elements =
    largest(sizes.batch) *
    largest(sizes.channels) *
    largest(sizes.length) *
    largest(sizes.states) *
    largest(sizes.directions);
  if (elements > MOST_ELEMENTS)
    throw new ConfigError(
      op,
      "the largest shape is too large for the plain loops",
      `batch x channels x length x states x directions of at most ${MOST_ELEMENTS}`,
      String(elements),
    );
}

function settings(grid: ScanGrid, effort: Effort): Record<string, unknown> {
  return {
    ...grid,
    effort,
    tolerance: TOLERANCE,
    statistics:
      "medians of repetitions after a warm-up; on a GPU by device events, with the L2 cache flushed before each",
    element: "one update of one state: batch x length x channels x directions x states",
    bytes: "every input read once, every output written once; backward reads its inputs again",
    plainLoops: "one thread of the host",
  };
}

/** Lengths innermost: they are the horizontal axis of the chart. */
function* shapes(grid: ScanGrid, dtype: ScanDType): Generator<ScanShape> {
  for (const batch of grid.batch)
    for (const channels of grid.channels)
      for (const directions of grid.directions)
        for (const states of grid.states)
          for (const length of grid.length)
            yield { batch, length, channels, directions, states, dtype, device: grid.device };
}

export function shapeName({ batch, directions, channels, length, states, dtype }: ScanShape): string {
  return `${batch} x (${directions} x ${channels}) x ${length}, N ${states}, ${dtype}`;
}

interface Run {
  passes: readonly Pass[];
  ceilings: Ceilings;
  effort: Effort;
  say: (line: string) => void;
}

function timeShape(shape: ScanShape, { passes, ceilings, effort, say }: Run): ScanRow[] {
  const scan = new ScanCase(shape);
  try {
    return passes.flatMap((pass) => {
      say(`\n${pass} ${shapeName(shape)}\n${scanTableHead()}`);
      const reference = scan.reference(pass);
      let fused: number | undefined;
      return SCAN_VARIANTS.map((variant) => {
        const { run, result } = scan.variant(variant, pass);
        const error = requireEqual(variant, pass, shape, result(), reference);
        const timing = timeCalls(run, variant === "fused" ? shape.device : "cpu", effort);
        fused ??= timing.ms;
        const row = rowOf({ shape, pass, variant, timing, error, fused, ceilings });
        say(scanTableLine(row));
        return row;
      });
    });
  } finally {
    scan.dispose();
  }
}

/** The largest error of all results. @throws {NativeError} if it is too large */
function requireEqual(
  variant: ScanVariant,
  pass: Pass,
  shape: ScanShape,
  got: readonly Floats[],
  expected: readonly Floats[],
): number {
  const error = Math.max(...got.map((values, k) => relativeError(values, expected[k])));
  if (!(error <= TOLERANCE[shape.dtype]))
    throw new NativeError(
      "bench scan",
      `${variant} gives a wrong result: ${pass} ${shapeName(shape)}`,
      `the plain loop's within ${TOLERANCE[shape.dtype]} of its largest entry`,
      String(error),
    );
  return error;
}

/** max |got - expected| / max |expected|; NaN where either has one. */
export function relativeError(got: Floats, expected: Floats): number {
  if (got.length !== expected.length) return Number.NaN;
  let [difference, largest] = [0, 0];
  for (let k = 0; k < got.length; k++) {
    difference = Math.max(difference, Math.abs(got[k] - expected[k]));
    largest = Math.max(largest, Math.abs(expected[k]));
  }
  return difference / (largest || 1);
}

function rowOf(measured: {
  shape: ScanShape;
  pass: Pass;
  variant: ScanVariant;
  timing: Timing;
  error: number;
  fused: number;
  ceilings: Ceilings;
}): ScanRow {
  const { shape, pass, variant, timing, error, fused, ceilings } = measured;
  const { threads, copyBytesPerSecond, flopsPerSecond: peak } = ceilings;
  const { bytes, flops } = scanCost(shape, pass);
  const seconds = timing.ms / 1000;
  const onDevice = shape.device === "cpu" || variant === "fused";
  return {
    group: "scan",
    name: `${variant}, ${pass} ${shapeName(shape)}${shape.device === "cpu" ? `, ${threads} threads` : ""}`,
    variant,
    pass,
    ...shape,
    threads,
    ...timing,
    nsPerElement: (1e9 * seconds) / scanElements(shape),
    bytes,
    flops,
    bytesPerSecond: bytes / seconds,
    flopsPerSecond: flops / seconds,
    ...(onDevice
      ? { shareOfCopy: bytes / seconds / copyBytesPerSecond, shareOfPeak: flops / seconds / peak }
      : {}),
    timesFused: timing.ms / fused,
    error,
  };
}
