/**
 * A scan sweep as one HTML file without scripts: time against length for each setting, and the rows under their roofline. Every
 * row is one mark in each of the two.
 */
import { Axes, round } from "../charts/axes.js";
import { type Markup, markup } from "../charts/markup.js";
import { page } from "../charts/page.js";
import { logarithmic, type Range } from "../charts/scales.js";
import type { Ceilings } from "./ceilings.js";
import { describeMachine } from "./machine.js";
import { SCAN_VARIANTS } from "./scan_case.js";
import type { ScanRow, ScanSweep } from "./scan_sweep.js";

const STYLE = `
h1 { font-size: 1.2rem; } h2 { font-size: 1rem; margin: 1.2rem 0 0.2rem; } p { margin: 0.2rem 0; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 0 1.5rem; }
.roof { stroke: var(--text); } .spread { stroke-width: 1.2; }
${SCAN_VARIANTS.map((_, k) => `.mark.v${k} * { fill: var(--v${k}); }`).join("\n")}`;

export function scanChart(sweep: ScanSweep): string {
  const { rows, ceilings } = sweep;
  const panels = [...groupBy(rows, panelTitle)].map(([title, members]) => timePanel(title, members));
  const roofs = ceilings.map((c) =>
    roofline(
      c,
      rows.filter((row) => row.threads === c.threads && row.dtype === c.dtype),
    ),
  );
  const keys = SCAN_VARIANTS.map(
    (name, k) =>
      markup`<svg class="key" viewBox="0 0 16 12" aria-hidden="true">${symbol(k, 8, 6)}</svg>${name}`,
  );
  const body = markup`<h1>Selective scan</h1>
<p>${describeMachine(sweep.machine)}; ${`${sweep.machine.begun}`}</p>
<p>${`${sweep.settings.statistics}; bars are p10 to p90. Plain loops: ${sweep.settings.plainLoops}.`}</p>
<p>${keys}</p>
<h2>Time against length</h2>
<div class="panels time">
${panels}
</div>
<h2>Roofline</h2>
<div class="panels roofline">
${roofs}
</div>`;
  return page({ title: "Selective scan", style: STYLE }, body);
}

/** The values, with a little room around them. */
function rangeOf(values: readonly number[], room = 1.3): Range {
  return { from: Math.min(...values) / room, to: Math.max(...values) * room };
}

function panelTitle({ pass, batch, directions, channels, states, dtype, threads, device }: ScanRow): string {
  const where = device === "cpu" ? `${threads} thread${threads === 1 ? "" : "s"}` : device;
  return `${pass}, batch ${batch}, ${directions} x ${channels} channels, N ${states}, ${dtype}, ${where}`;
}

function timePanel(title: string, rows: readonly ScanRow[]): Markup {
  const lengths = [...new Set(rows.map((row) => row.length))].sort((a, b) => a - b);
  const axes = new Axes(
    logarithmic(rangeOf(lengths)),
    logarithmic(rangeOf(rows.flatMap(({ p10, ms, p90 }) => [p10, ms, p90]))),
  );
  const body = SCAN_VARIANTS.flatMap((variant, k) => {
    const own = rows.filter((row) => row.variant === variant).sort((a, b) => a.length - b.length);
    return [
      axes.line(
        own.map((row) => [row.length, row.ms]),
        `v${k}`,
      ),
      ...own.map((row) => {
        const bar = axes.line(
          [
            [row.length, row.p10],
            [row.length, row.p90],
          ],
          `spread v${k}`,
        );
        return markup`${bar}${mark(row, axes.x(row.length), axes.y(row.ms))}`;
      }),
    ];
  });
  const xTicks = lengths.length <= 8 ? lengths : undefined;
  const svg = axes.svg({ label: title, xTitle: "length", yTitle: "ms", xTicks }, body);
  return markup`<figure>${svg}<figcaption>${title}</figcaption></figure>`;
}

function roofline(ceilings: Ceilings & { dtype: string }, rows: readonly ScanRow[]): Markup {
  const { dtype, threads, copyBytesPerSecond, flopsPerSecond, peak } = ceilings;
  const [copy, top] = [copyBytesPerSecond / 1e9, flopsPerSecond / 1e9];
  const ridge = top / copy;
  const intensity = (row: ScanRow) => row.flops / row.bytes;
  const x = rangeOf([...rows.map(intensity), ridge], 2);
  const speeds = rows.map((row) => row.flopsPerSecond / 1e9);
  const axes = new Axes(logarithmic(x), logarithmic(rangeOf([...speeds, top, copy * x.from])));
  const roof = axes.line(
    [
      [x.from, copy * x.from],
      [ridge, top],
      [x.to, top],
    ],
    "roof",
  );
  const marks = rows.map((row) => mark(row, axes.x(intensity(row)), axes.y(row.flopsPerSecond / 1e9)));
  const title = `${dtype}${rows[0].device === "cpu" ? `, ${threads} thread${threads === 1 ? "" : "s"}` : ""}`;
  const frame = { label: `Roofline, ${title}`, xTitle: "FLOP per byte", yTitle: "GFLOP/s" };
  const svg = axes.svg(frame, [roof, ...marks]);
  const caption = `${title}: copy ${copy.toFixed(1)} GB/s, ${top.toFixed(1)} GFLOP/s (${peak}). Marks above the roof: the data stayed in the caches.`;
  return markup`<figure>${svg}<figcaption>${caption}</figcaption></figure>`;
}

/** A row's symbol, which says on touch what it stands for. */
function mark(row: ScanRow, x: number, y: number): Markup {
  const title = `${row.name}: ${row.ms.toPrecision(3)} ms (${row.p10.toPrecision(3)} to ${row.p90.toPrecision(3)}, ${row.repetitions} repetitions), ${(row.flopsPerSecond / 1e9).toPrecision(3)} GFLOP/s, ${(row.bytesPerSecond / 1e9).toPrecision(3)} GB/s`;
  return symbol(SCAN_VARIANTS.indexOf(row.variant), x, y, markup`<title>${title}</title>`);
}

/** A circle, a square or a triangle: colour is not the only difference. */
function symbol(k: number, x: number, y: number, title?: Markup): Markup {
  const [cx, cy] = [round(x), round(y)];
  const forms = [
    markup`<circle cx="${cx}" cy="${cy}" r="4"/>`,
    markup`<rect x="${round(x - 3.5)}" y="${round(y - 3.5)}" width="7" height="7"/>`,
    markup`<path d="M${cx} ${round(y - 4.5)}l4.5 8h-9z"/>`,
  ];
  return markup`<g class="mark v${k}">${title}${forms[k]}</g>`;
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}
