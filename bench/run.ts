/**
 * Benches on the CPU: `npm run bench -- [scan] [products] [layers] [functions] [dispatch] [models] [--only TEXT] [--threads N]
 * [--json FILE]`. All groups without a word; `--only` keeps the rows whose name contains the text. Times are benny's samples (20 at
 * least, after its warm-up): medians, and p10-p90. The rows are saved for `npm run bench:compare` and for bench/peers.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { describeCeilings, measureCeilings } from "../lib/bench/ceilings.js";
import { describeMachine, machine } from "../lib/bench/machine.js";
import { getThreads, setThreads } from "../lib/index.js";
import { type Cases, time } from "./helpers/case.js";
import { LAST_RESULTS } from "./helpers/results.js";
import { type Row, show } from "./helpers/row.js";
import { modelRows } from "./models/models.js";
import { dispatch } from "./ops/dispatch.js";
import { functions } from "./ops/functions.js";
import { layers } from "./ops/layers.js";
import { products } from "./ops/products.js";
import { scan } from "./ops/scan.js";

const OPS: Record<string, () => Cases> = { scan, products, layers, functions, dispatch };
const GROUPS = [...Object.keys(OPS), "models"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string", default: "" },
    threads: { type: "string" },
    json: { type: "string", default: LAST_RESULTS },
  },
});
const unknown = positionals.find((word) => !GROUPS.includes(word));
if (unknown !== undefined) {
  console.error(`no group ${unknown}; there are ${GROUPS.join(", ")}`);
  process.exit(2);
}
if (values.threads) setThreads(Number(values.threads));

const found = machine("cpu");
const ceilings = measureCeilings("cpu");
console.log(`${describeMachine(found)}\n${describeCeilings(ceilings)}`);
console.log(
  "median (p10-p90, samples); bytes: every input and output once; above 100 %: the data stayed in the caches, or more was read than written",
);

const rows: Row[] = [];
const add = (row: Row) => {
  rows.push(row);
  console.log(`  ${show(row, ceilings)}`);
};
for (const group of GROUPS) {
  if (positionals.length > 0 && !positionals.includes(group)) continue;
  console.log(`\n${group}`);
  if (group === "models") for (const row of modelRows(getThreads())) add(row);
  else
    for (const timed of OPS[group]()) {
      if (timed.name.includes(values.only)) add(await time(timed));
    }
}
mkdirSync(dirname(values.json), { recursive: true });
writeFileSync(values.json, `${JSON.stringify({ machine: found, ceilings, rows }, null, 1)}\n`);
console.log(`\nwritten: ${values.json}`);
