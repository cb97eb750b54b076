/** Files of results side by side, and that the benches themselves still run. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { changes, differences, readResults, verdict } from "../../bench/helpers/results.js";
import type { Row } from "../../bench/helpers/row.js";
import { dispatch } from "../../bench/ops/dispatch.js";
import { functions } from "../../bench/ops/functions.js";
import { layers } from "../../bench/ops/layers.js";
import { products } from "../../bench/ops/products.js";
import { scan } from "../../bench/ops/scan.js";
import { quantile } from "../../lib/bench/timing.js";
import { scope } from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { leakFree } from "../helpers/leaks.js";
import { temporaryFolder } from "../helpers/temporary.js";

const results = suite("bench results");
const work = temporaryFolder();

function row(name: string, ms: number, p10 = ms, p90 = ms, group = "ops"): Row {
  return { group, name, ms, p10, p90, repetitions: 20 };
}
function save(name: string, content: unknown): string {
  const path = join(work, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

const BASE = [
  row("linear a", 10, 9, 12),
  row("  dx a", 4),
  row("linear b", 2),
  row("  dx a", 8),
  row("gone", 1),
];
const NEXT = [
  row("linear a", 5, 4, 6),
  row("  dx a", 4.4, 3, 5),
  row("linear b", 3),
  row("  dx a", 4),
  row("new", 1),
];

results("ratios, with the spread of both", () => {
  const found = changes(BASE, NEXT);
  assert.equal(
    found.map(({ name, ratio, low, high }) => [name, ratio, low, high]),
    [
      ["ops: linear a", 0.5, 4 / 12, 6 / 9],
      ["ops: linear a /  dx a", 4.4 / 4, 3 / 4, 5 / 4],
      ["ops: linear b", 1.5, 1.5, 1.5],
      ["ops: linear b /  dx a", 0.5, 0.5, 0.5],
    ],
  );
  assert.equal(found.map(verdict), ["faster", "within the noise", "slower", "faster"]);
});

results("rows of other groups and batches are others", () => {
  const small = { ...row("step", 1), images: 8 };
  assert.equal(
    changes([row("a", 1, 1, 1, "x"), small], [row("a", 1, 1, 1, "y"), { ...small, images: 128 }]),
    [],
  );
});

results("what differs between the machines is said", () => {
  const base = { cpu: "A", threads: 2, device: { name: "G", free: 1 } };
  assert.equal(differences(base, { ...base, device: { name: "G", free: 2 } }), []);
  assert.equal(differences(base, { ...base, threads: 1 }), ["threads: 2, then 1"]);
});

results("bench:compare prints the ratios; files that are none are one line of error", () => {
  const compare = (...args: string[]) =>
    spawnSync(process.execPath, [join(packageRoot(), "dist/bench/compare.js"), ...args], {
      cwd: work,
      encoding: "utf8",
    });
  const base = save("base.json", { machine: { cpu: "A" }, rows: BASE });
  const next = save("next.json", { machine: { cpu: "B" }, rows: NEXT });
  const { status, stdout } = compare(base, next);
  assert.is(status, 0);
  assert.match(stdout, /not the same cpu: A, then B/);
  assert.match(stdout, /ops: linear a +10\.000 +5\.0000 +0\.500 +\(0\.33 to 0\.67\) {2}faster/);
  assert.match(stdout, /4 rows: 2 faster, 1 slower; geometric mean of new\/base 0\.801/);

  assert.is(compare().status, 2);
  for (const [path, message] of [
    [join(work, "missing.json"), /^error: .*missing\.json/],
    [save("broken.json", "{"), /^error: .*broken\.json/],
    [save("other.json", { rows: [{ name: "x" }] }), /no results of a bench/],
    [save("apart.json", { rows: [row("apart", 1)] }), /no row in common/],
  ] as [string, RegExp][]) {
    const { status, stderr } = compare(base, path);
    assert.is(status, 1);
    assert.match(stderr, message);
    assert.not.match(stderr, /\n {4}at /);
  }
  assert.is(readResults(base).rows.length, BASE.length);
});

results("quantiles are interpolated", () => {
  assert.is(quantile([4, 1, 3, 2], 0.5), 2.5);
  assert.is(quantile([5], 0.9), 5);
});

for (const [name, cases] of Object.entries({ scan, products, layers, functions, dispatch }))
  results(
    `every bench of ${name} runs, under a name of its own`,
    leakFree(() => {
      const names = new Set<string>();
      let head = "";
      for (const { group, name: row, run } of cases()) {
        head = row.startsWith(" ") ? head : row;
        const full = row === head ? row : `${head} /${row}`;
        assert.is(group, name);
        assert.not.ok(names.has(full), full);
        names.add(full);
        scope(() => void run());
      }
    }),
  );

results.run();
