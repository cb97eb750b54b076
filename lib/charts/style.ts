/** Colours of all pages, light and dark, and the looks of charts. Series k has the class `v`k. */
export const CHART_STYLE = `
:root { color-scheme: light dark; --back: #fff; --text: #222; --grid: #ddd; --v0: #0b6e4f; --v1: #c1550f; --v2: #5b4bb5; }
@media (prefers-color-scheme: dark) { :root { --back: #161616; --text: #ddd; --grid: #383838; --v0: #4cc79a; --v1: #f0904d; --v2: #a99cf5; } }
body { margin: 1rem; background: var(--back); color: var(--text); font: 15px/1.4 system-ui, sans-serif; }
figure { margin: 0.6rem 0; max-width: 560px; } figcaption { font-size: 0.85rem; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; fill: var(--text); }
svg.key { display: inline-block; width: 16px; height: 12px; margin: 0 0.2rem 0 0.8rem; }
.grid { stroke: var(--grid); stroke-width: 1; } polyline { fill: none; stroke-width: 1.5; }
.v0 { stroke: var(--v0); } .v1 { stroke: var(--v1); } .v2 { stroke: var(--v2); }`;
