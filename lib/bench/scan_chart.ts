/**
 * A scan sweep as one HTML file without scripts: time against length for each setting, and the rows under their roofline. Every
 * row is one mark in each of the two.
 */
import type { Ceilings } from "./ceilings.js";
import { escapeText, LogAxes, rangeOf, round } from "./log_axes.js";
import { describeMachine } from "./machine.js";
import { SCAN_VARIANTS } from "./scan_case.js";
import type { ScanRow, ScanSweep } from "./scan_sweep.js";

const STYLE = `
:root { color-scheme: light dark; --back: #fff; --text: #222; --grid: #ddd; --v0: #0b6e4f; --v1: #c1550f; --v2: #5b4bb5; }
@media (prefers-color-scheme: dark) { :root { --back: #161616; --text: #ddd; --grid: #383838; --v0: #4cc79a; --v1: #f0904d; --v2: #a99cf5; } }
body { margin: 1rem; background: var(--back); color: var(--text); font: 15px/1.4 system-ui, sans-serif; }
h1 { font-size: 1.2rem; } h2 { font-size: 1rem; margin: 1.2rem 0 0.2rem; } p { margin: 0.2rem 0; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 0 1.5rem; }
figure { margin: 0.6rem 0; max-width: 560px; } figcaption { font-size: 0.85rem; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; fill: var(--text); }
svg.key { display: inline-block; width: 16px; height: 12px; margin: 0 0.2rem 0 0.8rem; }
.grid { stroke: var(--grid); stroke-width: 1; } polyline { fill: none; stroke-width: 1.5; }
.roof { stroke: var(--text); } .spread { stroke-width: 1.2; }
${SCAN_VARIANTS.map((_, k) => `.v${k} { stroke: var(--v${k}); } .mark.v${k} * { fill: var(--v${k}); }`).join("\n")}`;

export function scanChart(sweep: ScanSweep): string {
  const { rows, ceilings } = sweep;
  const panels = [...groupBy(rows, panelTitle)].map(([title, members]) => timePanel(title, members));
  const roofs = ceilings.map((c) =>
    roofline(
      c,
      rows.filter((row) => row.threads === c.threads && row.dtype === c.dtype),
    ),
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Selective scan</title>
<style>${STYLE}
</style>
</head>
<body>
<h1>Selective scan</h1>
<p>${escapeText(describeMachine(sweep.machine))}; ${sweep.machine.begun}</p>
<p>${escapeText(`${sweep.settings.statistics}; bars are p10 to p90. Plain loops: ${sweep.settings.plainLoops}.`)}</p>
<p>${SCAN_VARIANTS.map((name, k) => `<svg class="key" viewBox="0 0 16 12" aria-hidden="true">${symbol(k, 8, 6)}</svg>${name}`).join(" ")}</p>
<h2>Time against length</h2>
<div class="panels time">
${panels.join("\n")}
</div>
<h2>Roofline</h2>
<div class="panels roofline">
${roofs.join("\n")}
</div>
</body>
</html>
`;
}

function panelTitle({ pass, batch, directions, channels, states, dtype, threads, device }: ScanRow): string {
  const where = device === "cpu" ? `${threads} thread${threads === 1 ? "" : "s"}` : device;
  return `${pass}, batch ${batch}, ${directions} x ${channels} channels, N ${states}, ${dtype}, ${where}`;
}

function timePanel(title: string, rows: readonly ScanRow[]): string {
  const lengths = [...new Set(rows.map((row) => row.length))].sort((a, b) => a - b);
  const axes = new LogAxes(rangeOf(lengths), rangeOf(rows.flatMap(({ p10, ms, p90 }) => [p10, ms, p90])));
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
        return bar + mark(row, axes.x(row.length), axes.y(row.ms));
      }),
    ];
  });
  const svg = axes.svg(title, "length", "ms", body.join("\n"), lengths.length <= 8 ? lengths : undefined);
  return `<figure>${svg}<figcaption>${escapeText(title)}</figcaption></figure>`;
}

function roofline(ceilings: Ceilings & { dtype: string }, rows: readonly ScanRow[]): string {
  const { dtype, threads, copyBytesPerSecond, flopsPerSecond, peak } = ceilings;
  const [copy, top] = [copyBytesPerSecond / 1e9, flopsPerSecond / 1e9];
  const ridge = top / copy;
  const intensity = (row: ScanRow) => row.flops / row.bytes;
  const x = rangeOf([...rows.map(intensity), ridge], 2);
  const axes = new LogAxes(x, rangeOf([...rows.map((row) => row.flopsPerSecond / 1e9), top, copy * x.from]));
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
  const svg = axes.svg(`Roofline, ${title}`, "FLOP per byte", "GFLOP/s", [roof, ...marks].join("\n"));
  const caption = `${title}: copy ${copy.toFixed(1)} GB/s, ${top.toFixed(1)} GFLOP/s (${peak}). Marks above the roof: the data stayed in the caches.`;
  return `<figure>${svg}<figcaption>${escapeText(caption)}</figcaption></figure>`;
}

/** A row's symbol, which says on touch what it stands for. */
function mark(row: ScanRow, x: number, y: number): string {
  const title = `${row.name}: ${row.ms.toPrecision(3)} ms (${row.p10.toPrecision(3)} to ${row.p90.toPrecision(3)}, ${row.repetitions} repetitions), ${(row.flopsPerSecond / 1e9).toPrecision(3)} GFLOP/s, ${(row.bytesPerSecond / 1e9).toPrecision(3)} GB/s`;
  return symbol(SCAN_VARIANTS.indexOf(row.variant), x, y, `<title>${escapeText(title)}</title>`);
}

/** A circle, a square or a triangle: colour is not the only difference. */
function symbol(k: number, x: number, y: number, title = ""): string {
  const [cx, cy] = [round(x), round(y)];
  const forms = [
    `<circle cx="${cx}" cy="${cy}" r="4"/>`,
    `<rect x="${round(x - 3.5)}" y="${round(y - 3.5)}" width="7" height="7"/>`,
    `<path d="M${cx} ${round(y - 4.5)}l4.5 8h-9z"/>`,
  ];
  return `<g class="mark v${k}">${title}${forms[k]}</g>`;
}

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}
