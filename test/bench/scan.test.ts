/** The scan sweep: results are compared before anything is timed, and what is written is whole. No test looks at a time. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PASSES, SCAN_VARIANTS, ScanCase, scanCost, type ScanShape } from "../../lib/bench/scan_case.js";
import { scanChart } from "../../lib/bench/scan_chart.js";
import { relativeError, type ScanGrid, type ScanSweep, sweepScan } from "../../lib/bench/scan_sweep.js";
import { scanCsv } from "../../lib/bench/scan_table.js";
import { ConfigError, DeviceError, NativeError, ShapeError } from "../../lib/index.js";
import { addon, packageRoot, translate } from "../../lib/native/addon.js";
import { leakFree, thrown } from "../helpers/leaks.js";
import { temporaryFolder } from "../helpers/temporary.js";

const bench = suite("bench scan");
const work = temporaryFolder();
const main = join(packageRoot(), "dist/lib/cli/main.js");

const GRID: ScanGrid = {
  batch: [2],
  channels: [5],
  length: [1, 7, 20],
  states: [1, 3],
  directions: [1, 2],
  dtype: ["float32"],
  pass: [...PASSES],
  threads: [1, 2],
  device: "cpu",
};
const ONCE = { warmUpMs: 0, budgetMs: 0, fewest: 1, most: 1 };
const ROWS = 2 * 3 * 2 * 2 * PASSES.length * SCAN_VARIANTS.length;

const lines: string[] = [];
let sweep: ScanSweep;
bench.before(() => {
  sweep = sweepScan(GRID, (line) => lines.push(line), ONCE);
});

bench(
  "the fused scan and both plain loops agree with the float64 loop: outputs and all gradients",
  leakFree(() => {
    for (const dtype of ["float32", "float64"] as const)
      for (const directions of [1, 3]) {
        const shape: ScanShape = {
          batch: 2,
          length: 70,
          channels: 19,
          directions,
          states: 5,
          dtype,
          device: "cpu",
        };
        const scan = new ScanCase(shape);
        for (const pass of PASSES) {
          const expected = scan.reference(pass);
          assert.is(expected.length, pass === "forward" ? 1 : 5);
          for (const variant of SCAN_VARIANTS)
            scan
              .variant(variant, pass)
              .result()
              .forEach((values, k) => {
                const error = relativeError(values, expected[k]);
                assert.ok(
                  error < (dtype === "float64" ? 1e-12 : 2e-5),
                  `${variant}, ${pass}, ${dtype}: ${error}`,
                );
              });
        }
        scan.dispose();
      }
  }),
);

bench("a row for every combination, each with a name of its own and all figures", () => {
  assert.is(sweep.rows.length, ROWS);
  assert.is(new Set(sweep.rows.map(({ name }) => name)).size, ROWS);
  for (const row of sweep.rows) {
    for (const key of [
      "ms",
      "p10",
      "p90",
      "nsPerElement",
      "bytesPerSecond",
      "flopsPerSecond",
      "shareOfCopy",
      "shareOfPeak",
    ] as const)
      assert.ok(Number.isFinite(row[key]) && (row[key] as number) > 0, `${row.name}: ${key}`);
    assert.is(row.repetitions, 1);
    if (row.variant === "fused") assert.is(row.timesFused, 1);
  }
  assert.equal(
    sweep.ceilings.map(({ threads, dtype }) => [threads, dtype]),
    [
      [1, "float32"],
      [2, "float32"],
    ],
  );
  for (const key of ["cpu", "cores", "isa", "node", "compiler", "begun"]) assert.ok(sweep.machine[key], key);
  assert.is(lines.filter((line) => line.startsWith("  fused")).length, ROWS / 3);
});

bench("a wrong result is an error, not a row", () => {
  const { plainScan } = addon;
  addon.plainScan = (sizes, ...arrays) => {
    plainScan.call(addon, sizes, ...arrays);
    arrays[5][0] += 1;
  };
  try {
    const error = thrown(() => sweepScan({ ...GRID, threads: [] }, () => {}, ONCE), NativeError);
    assert.match(error.message, /plain C\+\+ gives a wrong result: forward 2 x \(1 x 5\) x 1, N 1, float32/);
  } finally {
    addon.plainScan = plainScan;
  }
  assert.ok(Number.isNaN(relativeError(Float32Array.of(1, Number.NaN), Float32Array.of(1, 2))));
});

bench("bytes and operations by hand", () => {
  const shape: ScanShape = {
    batch: 2,
    length: 3,
    channels: 4,
    directions: 2,
    states: 5,
    dtype: "float64",
    device: "cpu",
  };
  // per token: u and y 4 each, delta 8, B and C 10 each
  assert.equal(scanCost(shape, "forward"), { bytes: 8 * 6 * 36, flops: 7 * 6 * 8 * 5 });
  // backward: u, dy, du 4 each; delta, ddelta 8 each; B, C, dB, dC 10 each
  assert.is(scanCost(shape, "training").bytes, 8 * 6 * (36 + 68));
});

bench("grids that cannot be are refused", () => {
  const refused = (change: Partial<ScanGrid>) => () => sweepScan({ ...GRID, ...change }, () => {}, ONCE);
  assert.match(thrown(refused({ dtype: ["bfloat16"] }), DeviceError).message, /bfloat16/);
  assert.match(thrown(refused({ length: [2 ** 20], states: [2 ** 20] }), ConfigError).message, /too large/);
});

bench("the addon refuses arrays that do not fit the sizes", () => {
  const sizes = Float64Array.of(1, 2, 3, 1, 1);
  const arrays = [6, 6, 3, 2, 2, 6].map((n) => new Float32Array(n));
  addon.plainScan(sizes, ...arrays, new Float32Array(0));
  addon.plainScan(sizes, ...arrays, new Float32Array(6));
  const call =
    (...args: Parameters<typeof addon.plainScan>) =>
    () => {
      try {
        addon.plainScan(...args);
      } catch (error) {
        throw translate("plainScan", error);
      }
    };
  thrown(call(sizes, ...arrays, new Float32Array(5)), ShapeError);
  thrown(call(sizes, ...arrays.slice(0, 5), new Float32Array(7), new Float32Array(0)), ShapeError);
  thrown(call(Float64Array.of(1, 2, 3, 1, 0.5), ...arrays, new Float32Array(0)), ShapeError);
  thrown(call(Float64Array.of(1, 2, 3), ...arrays, new Float32Array(0)), ShapeError);
});

bench("the chart has a mark for every row in each of its two parts, and no script", () => {
  const html = scanChart(sweep);
  const [, time, roofline] = html.split(/<div class="panels (?:time|roofline)">/);
  for (const part of [time, roofline]) assert.is(part.match(/<g class="mark /g)?.length, ROWS);
  // a panel for each setting but the length; a roofline for each number of threads
  assert.is(time.match(/<figure>/g)?.length, 2 * 2 * 2 * PASSES.length);
  assert.is(roofline.match(/<figure>/g)?.length, 2);
  assert.not.match(html, /<script|https?:|NaN|Infinity|undefined/);
});

bench("CSV has a line of titles and one per row", () => {
  const [titles, ...rest] = scanCsv(sweep.rows).trimEnd().split("\r\n");
  assert.is(rest.length, ROWS);
  assert.match(titles, /^group,name,variant,pass,/);
  assert.match(rest[0], /^scan,"fused, forward 2 x \(1 x 5\) x 1, N 1, float32, 1 threads",fused,forward,/);
});

function run(...args: string[]) {
  return spawnSync(process.execPath, [main, "bench", "scan", ...args], { cwd: work, encoding: "utf8" });
}

bench("the command writes JSON, CSV and HTML", () => {
  const { status, stdout, stderr } = run(
    ..."--length 3,5 --channels 2 --state 1 --directions 2 --pass forward --dtype float32 --threads 1 --out a/b".split(
      " ",
    ),
  );
  assert.is(status, 0, stderr);
  assert.match(stdout, /ceilings at 1 thread: copy .* GB\/s .* GFLOP\/s/);
  const saved = JSON.parse(readFileSync(join(work, "a/b/scan.json"), "utf8")) as ScanSweep;
  assert.is(saved.rows.length, 2 * SCAN_VARIANTS.length);
  assert.equal(saved.settings.length, [3, 5]);
  assert.match(readFileSync(join(work, "a/b/scan.csv"), "utf8"), /^group,name/);
  assert.match(readFileSync(join(work, "a/b/scan.html"), "utf8"), /^<!doctype html>/);
});

bench("wrong options are one line of error and an exit code", () => {
  writeFileSync(join(work, "file"), "");
  for (const [args, code, message] of [
    [["--length", "0"], 2, /whole number of at least 1/],
    [["--length", "16,"], 2, /whole number of at least 1/],
    [["--threads", "257"], 2, /whole number from 1 to 256/],
    [["--dtype", "float16"], 2, /expected float32, float64, bfloat16/],
    [["--pass", "backward"], 2, /expected forward, training/],
    [["--device", "gpu"], 2, /cpu, cuda/],
    [["--lenght", "3"], 2, /Did you mean --length/],
    [["--dtype", "bfloat16"], 1, /does not compute in bfloat16/],
    [["--out", "file/below"], 1, /cannot be made/],
  ] as [string[], number, RegExp][]) {
    const { status, stderr } = run(...args);
    assert.is(status, code, args.join(" "));
    assert.match(stderr, message);
    assert.not.match(stderr, /\n {4}at /);
  }
});

bench.run();
