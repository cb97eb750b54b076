/**
 * Benches on the GPU: `npm run bench:cuda -- [scan] [products] [layers] [models] [--profile] [--variants lite,small] [--json FILE]`.
 * All groups without a word. Times are device events with the L2 cache flushed, medians of 20 after a warm-up; whole steps are the
 * host's clock around a step and a wait.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { cudaInfo, type Variant } from "../../lib/index.js";
import { copyBandwidth } from "../../lib/bench/ceilings.js";
import { machine } from "../../lib/bench/machine.js";
import { packageVersion } from "../../lib/native/addon.js";
import { layerRows } from "./layers.js";
import { type Row, show } from "../helpers/row.js";
import { modelRows } from "./models.js";
import { productRows } from "./products.js";
import { scanRows } from "./scan.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    profile: { type: "boolean", default: false },
    variants: { type: "string", default: "lite,tiny,small,base" },
    json: { type: "string" },
  },
});

const info = cudaInfo();
if (!info.available) {
  console.log(`bench:cuda needs a CUDA device: ${info.reason}`);
  process.exit(1);
}

const GROUPS: Record<string, () => Row[]> = {
  scan: scanRows,
  products: productRows,
  layers: layerRows,
  models: () => modelRows(values.variants.split(",") as Variant[], values.profile),
};

const found = machine("cuda");
const bandwidth = copyBandwidth("cuda");
console.log(
  `${info.name}, driver for CUDA ${info.driver / 1000}, quadmamba ${packageVersion()}; copy ${(bandwidth / 1e9).toFixed(0)} GB/s (read + written)`,
);
const rows: Row[] = [];
for (const [name, group] of Object.entries(GROUPS)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  console.log(`\n${name}`);
  for (const row of group()) {
    rows.push(row);
    console.log(`  ${show(row, { copyBytesPerSecond: bandwidth })}`);
  }
}
if (values.json)
  writeFileSync(
    values.json,
    `${JSON.stringify({ machine: found, copyBytesPerSecond: bandwidth, rows }, null, 1)}\n`,
  );
