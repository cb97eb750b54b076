/** The page of a run, from small folders written here; where there is a Chromium, also in it. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FileError } from "../../lib/index.js";
import { confusionSection } from "../../lib/report/confusion.js";
import { curves } from "../../lib/report/curves.js";
import { agreement, entropy, windowShares } from "../../lib/report/partition_section.js";
import { writeReport } from "../../lib/report/report.js";
import { train } from "../../lib/train/index.js";
import { writeTinyData } from "../helpers/idx_files.js";
import { temporaryFolder } from "../helpers/temporary.js";

const report = suite("report");
const work = temporaryFolder();
const options = { device: "cpu", precision: "fp32", evalBatchSize: 7, weights: "trained" } as const;
const HOSTILE = `</script><script>alert(1)</script><img src=x onerror="alert('2')">`;

function folder(name: string, files: Record<string, string>): string {
  const path = join(work, name);
  mkdirSync(path);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
  return path;
}

report("figures become points: 0 to 40 steps on 298 units, 0 to 2.08 on 212 units", () => {
  const rows = [
    { step: 0, epoch: 0, lr: 0, gradNorm: 2 },
    { step: 10, epoch: 0, lr: 1, gradNorm: "damaged" },
    { step: 40, epoch: 0, lr: 2 },
  ];
  const [lr, norm, ...rest] = curves(rows).map(String);
  assert.is(rest.length, 0);
  assert.match(
    lr,
    'points="52,222 126.5,120.1 350,18.2" data-name="learning rate" data-steps="0 10 40" data-values="0|1|2"',
  );
  assert.match(norm, 'data-steps="0" data-values="2"');
});

report("long runs are thinned, and keep their highest value", () => {
  const rows = Array.from({ length: 5000 }, (_, step) => ({
    step,
    epoch: 0,
    gradNorm: step === 1234 ? 99 : 1,
  }));
  const [, values] = /data-values="([^"]*)"/.exec(String(curves(rows)[0])) as RegExpExecArray;
  assert.ok(values.split("|").length <= 300);
  assert.is(values.split("|").filter((value) => value === "99").length, 1);
});

report("shares, entropy and agreement of choices", () => {
  assert.equal(windowShares({ windows: 4, choices: [0, 0, 3, 1] }), [0.5, 0.25, 0, 0.25]);
  assert.is(entropy([0.5, 0.25, 0, 0.25]), 1.5);
  assert.is(agreement([0, 1, 2, 3], [0, 1, 3, 2]), 0.5);
});

report("a matrix of 10 classes is a table of counts, of 120 a picture; names are escaped", async () => {
  const matrix = (n: number) =>
    Array.from({ length: n }, (_, a) => Array.from({ length: n }, (_, b) => (a === b ? 9 : b === 0 ? 1 : 0)));
  const names = (n: number) => Array.from({ length: n }, (_, k) => (k === 1 ? HOSTILE : `c${k}`));
  const small = String(await confusionSection(matrix(10), names(10)));
  assert.is(small.match(/<td class="right" style="--heat: (0.95|1.00)">9<\/td>/g)?.length, 10);
  assert.not.match(small, /<script|<img/);
  const large = String(await confusionSection(matrix(120), names(120)));
  assert.match(
    large,
    /<img class="pixels matrix" src="data:image\/png;base64,[\w+/=]+" width="120" height="120"/,
  );
  assert.not.match(large, /<script|onerror="/);
});

report("what is missing or hostile is left out or escaped, and the page says so", async () => {
  const path = folder("hostile", {
    "config.json": JSON.stringify({ data: HOSTILE, [HOSTILE]: 1, labelSmoothing: 0.1 }),
    "metrics.jsonl": '{"step":1,"epoch":0,"trainLoss":1}\n{"step":2,"epo\n',
  });
  const { path: page, leftOut } = await writeReport(path, options);
  const html = readFileSync(page, "utf8");
  assert.is(leftOut.length, 3);
  assert.match(leftOut[0], /^1 of 2 lines/);
  assert.match(html, /environment\.json, which is missing/);
  assert.match(html, /best\.safetensors is missing/);
  assert.is(html.match(/<script/g)?.length, 1);
  assert.not.match(html, /<img src=x/);
  const shown = html.replace(/<script>[\s\S]*<\/script>/, ""); // the page's own, whose words are no figures
  assert.not.match(shown, /https?:|url\(|NaN|undefined|Infinity/);
});

report("a folder without a run is refused", async () => {
  for (const path of [join(work, "nowhere"), folder("empty", {})])
    try {
      await writeReport(path, options);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, FileError);
      assert.match((error as Error).message, path);
    }
});

/** A browser is no place for the sanitizers that the tests may run under, and must not hold them up. */
const browse = (flags: string[]) =>
  spawnSync("chromium", flags, {
    encoding: "utf8",
    timeout: 30_000,
    env: { ...process.env, LD_PRELOAD: undefined },
  });
const chromium = browse(["--version"]).status === 0;
const run = join(work, "run");

let written: ReturnType<typeof writeReport> | undefined;
/** The page of a trained run, made by the first test that asks for it. */
function trainedReport(): ReturnType<typeof writeReport> {
  written ??= trainAndReport();
  return written;
}
async function trainAndReport(): ReturnType<typeof writeReport> {
  const data = writeTinyData(join(work, "data"), { train: 64, test: 20, size: 14, classes: 4 });
  const model = { dims: 8, depths: [2, 1, 1, 1] } as {
    dims: number;
    depths: [number, number, number, number];
  };
  await train(
    { data, model, imageSize: 16, batchSize: 16, epochs: 1, logEvery: 1, threads: 1 },
    { out: run },
  );
  return writeReport(run, options);
}

report("a trained run has every section", async () => {
  const { path, evaluation, leftOut } = await trainedReport();
  const html = readFileSync(path, "utf8");
  assert.equal(leftOut, []);
  for (const title of [
    "Curves",
    "Confusion",
    "Surest mistakes",
    "Partitions",
    "Configuration and environment",
  ])
    assert.match(html, `<h2>${title}</h2>`);
  const wrong = Math.round(20 * (1 - (evaluation?.top1 ?? 0)));
  assert.is(html.match(/<img class="pixels" src="data:image\/png/g)?.length ?? 0, wrong);
  assert.is(html.match(/class="quadrants"/g)?.length, 3);
});

(chromium ? report : report.skip)(
  "in Chromium: no console errors (a request would be one, by the policy), and values under the keys (needs chromium)",
  async () => {
    const { path: page } = await trainedReport();
    const flags = [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--enable-logging=stderr",
      `--user-data-dir=${join(work, "profile")}`,
    ];
    const probe = join(work, "probe.html");
    // The page without its policy, and a key press at the end.
    const html = readFileSync(page, "utf8").replace(/<meta http-equiv[^>]*>/, "");
    const press = `<script>document.querySelector(".chart svg").dispatchEvent(new KeyboardEvent("keydown", { key: "End" }))</script>`;
    writeFileSync(probe, html.replace("</body>", `${press}</body>`));
    const open = (file: string) => browse([...flags, "--dump-dom", `file://${file}`]);
    const { stdout, stderr } = open(page);
    assert.match(stdout, /tabindex="0"/); // set by the script: the policy lets it run
    assert.not.match(stderr, /CONSOLE/);
    assert.match(open(probe).stdout, /<output>step 4: training \d/);
  },
);

report.run();
