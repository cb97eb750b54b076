/** The rows of a scan sweep as lines of text and as CSV. */
import type { ScanRow } from "./scan_sweep.js";

const COLUMNS: readonly [title: string, width: number, cell: (row: ScanRow) => string][] = [
  ["ms", 10, (r) => r.ms.toFixed(4)],
  ["p10-p90", 19, (r) => `${r.p10.toFixed(4)}-${r.p90.toFixed(4)}`],
  ["n", 4, (r) => String(r.repetitions)],
  ["ns/element", 11, (r) => r.nsPerElement.toFixed(3)],
  ["GB/s", 8, (r) => (r.bytesPerSecond / 1e9).toFixed(1)],
  ["% of copy", 10, (r) => percent(r.shareOfCopy)],
  ["GFLOP/s", 8, (r) => (r.flopsPerSecond / 1e9).toFixed(1)],
  ["% of peak", 10, (r) => percent(r.shareOfPeak)],
  ["x fused", 8, (r) => r.timesFused.toFixed(2)],
];
const NAME_WIDTH = 18;

function percent(share: number | undefined): string {
  return share === undefined ? "-" : (100 * share).toFixed(1);
}

export function scanTableHead(): string {
  return "".padEnd(NAME_WIDTH) + COLUMNS.map(([title, width]) => title.padStart(width)).join("");
}

export function scanTableLine(row: ScanRow): string {
  return (
    `  ${row.variant}`.padEnd(NAME_WIDTH) +
    COLUMNS.map(([, width, cell]) => cell(row).padStart(width)).join("")
  );
}

/** One line of titles, one line per row; RFC 4180. */
export function scanCsv(rows: readonly ScanRow[]): string {
  const titles = Object.keys(rows[0]) as (keyof ScanRow)[];
  const cell = (value: unknown) => {
    const text = value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [titles, ...rows.map((row) => titles.map((title) => row[title]))]
    .map((cells) => `${cells.map(cell).join(",")}\r\n`)
    .join("");
}
