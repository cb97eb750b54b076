/** One measured number, as it is printed and saved. */
import type { Timing } from "../../lib/bench/timing.js";

export interface Row extends Timing {
  group: string;
  /** An indented one ("  dx ...") belongs to the one above it. */
  name: string;
  /** The least that must move: every input read once, every output written once. */
  bytes?: number;
  flops?: number;
  /** What one call works on. */
  elements?: number;
  /** Images of a step. */
  images?: number;
  /** Bytes of tensors in use, and with what is kept for reuse, at most. */
  peakBytes?: number;
  reservedBytes?: number;
  /** Bytes of the process in memory, at most. */
  residentBytes?: number;
  /** Share of the time that is not spent in kernels. */
  javascriptShare?: number;
  note?: string;
}

export function show(row: Row, ceilings: { copyBytesPerSecond: number; flopsPerSecond?: number }): string {
  const seconds = row.ms / 1000;
  const cells = [
    row.name.padEnd(54),
    `${row.ms.toFixed(row.ms < 0.01 ? 5 : 3).padStart(9)} ms`,
    `(${row.p10.toPrecision(4)}-${row.p90.toPrecision(4)}, ${row.repetitions})`.padEnd(24),
  ];
  if (row.elements !== undefined)
    cells.push(`${((1e9 * seconds) / row.elements).toFixed(3).padStart(8)} ns/element`);
  if (row.bytes !== undefined) {
    const rate = row.bytes / seconds;
    cells.push(
      `${(rate / 1e9).toFixed(rate < 1e11 ? 1 : 0).padStart(6)} GB/s`,
      `${share(rate, ceilings.copyBytesPerSecond)} of copy`,
    );
  }
  if (row.flops !== undefined) {
    const rate = row.flops / seconds;
    cells.push(
      rate < 2e12
        ? `${(rate / 1e9).toFixed(1).padStart(7)} GFLOP/s`
        : `${(rate / 1e12).toFixed(1).padStart(7)} TFLOP/s`,
    );
    if (ceilings.flopsPerSecond) cells.push(`${share(rate, ceilings.flopsPerSecond)} of peak`);
  }
  if (row.images !== undefined) cells.push(`${(row.images / seconds).toFixed(1).padStart(7)} images/s`);
  if (row.peakBytes !== undefined)
    cells.push(
      `peak ${gib(row.peakBytes)} GiB${row.reservedBytes ? `, reserved ${gib(row.reservedBytes)}` : ""}`,
    );
  if (row.residentBytes !== undefined) cells.push(`resident ${gib(row.residentBytes)} GiB`);
  if (row.javascriptShare !== undefined)
    cells.push(`${(100 * row.javascriptShare).toFixed(1)} % JavaScript outside of kernels`);
  if (row.note) cells.push(row.note);
  return cells.join("  ");
}

function share(rate: number, ceiling: number): string {
  return `${((100 * rate) / ceiling).toFixed(0).padStart(4)} %`;
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(2);
}
