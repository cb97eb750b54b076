/** What a report's page looks like, and the little that it does: values under the pointer or the arrow keys. */
export const STYLE = `
* { box-sizing: border-box; }
:root { --soft: #666; --card: #f5f5f3; --right: 11, 110, 79; --wrong: 193, 85, 15; }
@media (prefers-color-scheme: dark) { :root { --soft: #a5a5a5; --card: #222; --right: 76, 199, 154; --wrong: 240, 144, 77; } }
body { margin: 0 auto; padding: 1rem; max-width: 1180px; }
h1 { font-size: 1.5rem; margin: 0.2rem 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0.5rem; padding-top: 0.6rem; border-top: 1px solid var(--grid); }
h3 { font-size: 0.95rem; margin: 0; } p { margin: 0.4rem 0; max-width: 75ch; overflow-wrap: anywhere; } small, .soft { color: var(--soft); }
figure { margin: 0; max-width: none; } figcaption { line-height: 1.35; } code { overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 0.6rem; margin: 1rem 0; }
.cards div { background: var(--card); border-radius: 8px; padding: 0.6rem 0.8rem; overflow-wrap: anywhere; } .cards b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.notes { border-left: 4px solid rgb(var(--wrong)); padding: 0.1rem 0.8rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 1.4rem 1.6rem; }
.chart svg:not(.key) { touch-action: pan-y; max-width: 560px; } .chart svg:focus-visible { outline: 2px solid var(--v0); outline-offset: 2px; }
.chart svg.key { margin: 0 0.3rem 0 0; vertical-align: middle; } .chart .last span { margin-right: 1rem; white-space: nowrap; }
.chart figcaption { min-height: 2.7em; font-variant-numeric: tabular-nums; } .chart output { display: block; } svg.key path { stroke-width: 2.5; }
.chart .v2 { stroke-dasharray: 5 2; } .dots { stroke: none !important; } .dots.v0 { fill: var(--v0); } .dots.v1 { fill: var(--v1); } .dots.v2 { fill: var(--v2); }
.cross { stroke: var(--soft); stroke-width: 1; } .here { fill: var(--back); stroke-width: 2; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } caption { text-align: left; color: var(--soft); font-size: 0.85rem; padding-bottom: 0.3rem; }
th, td { padding: 0.2rem 0.5rem; text-align: left; font-weight: normal; } .number { white-space: nowrap; } td.number, .epochs td { text-align: right; } thead th { color: var(--soft); font-size: 0.85rem; }
tbody tr { border-top: 1px solid var(--grid); } .scroll { overflow-x: auto; max-width: 100%; }
.confusion td { text-align: center; min-width: 2.7rem; } .confusion tr, .quadrants tr, .agreement tr { border: 0; } .confusion thead th { vertical-align: bottom; padding: 0.3rem 0.1rem; }
.confusion thead span { writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block; } .confusion tbody th { position: sticky; left: 0; background: var(--back); text-align: right; white-space: nowrap; }
.right, .quadrants td, .agreement td { background: rgba(var(--right), calc(var(--heat, 0) * 0.55)); } .wrong { background: rgba(var(--wrong), calc(var(--heat, 0) * 1.2)); }
.matrix { width: min(100%, 640px); height: auto; border: 1px solid var(--grid); } .pixels { image-rendering: pixelated; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 1.5rem; margin-top: 1.2rem; align-items: start; }
.thumbnails { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 0.9rem 0.7rem; } .thumbnails img { width: 100%; max-width: 144px; aspect-ratio: 1; object-fit: contain; border-radius: 4px; background: #000; }
.blocks { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem 1.4rem; margin: 0.8rem 0 1.2rem; } .blocks p { font-size: 0.85rem; } .quadrants { width: 100%; table-layout: fixed; }
.quadrants td, .agreement td { text-align: center; border: 1px solid var(--grid); } .quadrants td { padding: 0.7rem 0; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(45%, 150px), 1fr)); gap: 0.6rem; margin: 0.8rem 0 1.1rem; } .maps figure > svg { border-radius: 4px; }
details { margin: 0.8rem 0; } summary { cursor: pointer; } .facts td, .facts th { overflow-wrap: anywhere; vertical-align: top; } .facts th { color: var(--soft); } .facts td { font-family: ui-monospace, monospace; font-size: 0.85rem; }
@media (max-width: 480px) { body { padding: 0.7rem; } h1 { font-size: 1.25rem; } .cards { grid-template-columns: repeat(2, 1fr); } .confusion td { min-width: 1.65rem; padding: 0.25rem 0; font-size: 0.72rem; } .confusion th { font-size: 0.75rem; padding-inline: 0.2rem; } }
@media print { details > * { display: block; } h2, figure { break-inside: avoid; } }`;

export const SCRIPT = `
"use strict";
for (const figure of document.querySelectorAll(".chart")) {
  const svg = figure.querySelector("svg:not(.key)");
  const output = figure.querySelector("output");
  const lines = [...svg.querySelectorAll("polyline")].map((line) => ({
    name: line.dataset.name,
    points: [...line.points].map(({ x, y }) => ({ x, y })),
    steps: line.dataset.steps.split(" "),
    values: line.dataset.values.split("|"),
    mark: svg.appendChild(element("circle", { class: "here " + line.getAttribute("class"), r: 4, visibility: "hidden" })),
  }));
  const cross = svg.insertBefore(element("path", { class: "cross", visibility: "hidden" }), svg.querySelector("polyline"));
  const places = [...new Set(lines.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  let at = places.length - 1;

  const show = (place) => {
    at = Math.min(places.length - 1, Math.max(0, place));
    const x = places[at];
    cross.setAttribute("d", "M" + x + " 10V222");
    cross.setAttribute("visibility", "visible");
    output.textContent = lines.map(({ name, points, steps, values, mark }) => {
      const k = nearest(points.map((point) => point.x), x);
      mark.setAttribute("cx", points[k].x);
      mark.setAttribute("cy", points[k].y);
      mark.setAttribute("visibility", "visible");
      return "step " + steps[k] + ": " + name + " " + values[k];
    }).join("; ");
  };
  const follow = ({ clientX }) => {
    const box = svg.getBoundingClientRect();
    show(nearest(places, ((clientX - box.left) / box.width) * svg.viewBox.baseVal.width));
  };
  svg.tabIndex = 0;
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -places.length, End: places.length }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    show(at + move);
  });
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function nearest(sorted, x) {
  return sorted.reduce((best, value, k) => (Math.abs(value - x) < Math.abs(sorted[best] - x) ? k : best), 0);
}
`;
