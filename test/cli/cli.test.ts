/** The command line as a user meets it: a child process, its words and its exit code. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadSafetensors } from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { writeTinyData } from "../helpers/idx_files.js";
import { temporaryFolder } from "../helpers/temporary.js";

const cli = suite("command line");
const work = temporaryFolder();
const main = join(packageRoot(), "dist/lib/cli/main.js");
const data = writeTinyData(join(work, "data"), {
  train: 64,
  test: 20,
  size: 14,
  classes: 4,
});
const config = join(work, "tiny.yaml");
writeFileSync(
  config,
  `data: ${data}\nmodel: {dims: 4, depths: [1, 1, 1, 1], ssmRatio: 1}\nimageSize: 16\nbatchSize: 16\nepochs: 2\n`,
);

function run(...args: string[]): {
  code: number | null;
  out: string;
  err: string;
} {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    cwd: work,
    encoding: "utf8",
  });
  return { code: status, out: stdout, err: stderr };
}

cli("--help and --version", () => {
  const help = run("--help");
  assert.is(help.code, 0);
  for (const name of ["train", "eval", "predict", "info", "doctor"])
    assert.match(help.out, new RegExp(`\\b${name}\\b`));
  assert.match(run("train", "--help").out, /--resume/);
  assert.match(run("--version").out, /^\d+\.\d+\.\d+\n$/);
});

cli("wrong commands, flags and keys are refused with the nearest name", () => {
  writeFileSync(join(work, "wrong.yaml"), "epocs: 3\n");
  writeFileSync(join(work, "broken.yaml"), "a: [1\n");
  for (const [args, message] of [
    [["tran"], /Did you mean train/],
    [["train", "--epoch", "2"], /Did you mean --epochs/],
    [["train", "--epochs", "two"], /whole number/],
    [["train", "--model", "tinny"], /did you mean tiny/],
    [["train", "--data", "minst"], /did you mean mnist/],
    [["train", "--config", "wrong.yaml"], /did you mean epochs/],
    [["train", "--config", "broken.yaml"], /broken\.yaml/],
    [["train", "--resume", "x", "--lr", "1"], /keeps its configuration/],
  ] as [string[], RegExp][]) {
    const { code, err } = run(...args);
    assert.is(code, 2, args.join(" "));
    assert.match(err, message);
  }
});

cli("a run whose numbers are not finite ends with exit code 3 and names the op", () => {
  const { code, err } = run(
    "train",
    "--config",
    config,
    "--lr",
    "1e30",
    "--warmup",
    "0",
    "--set",
    "clip=1e30",
  );
  assert.is(code, 3, err);
  assert.match(err, /^error: train: .*not finite at step \d+: first in/);
});

cli("info and doctor", () => {
  const { code, out } = run("info", "nano", "--size", "32", "--classes", "10", "--channels", "1");
  assert.is(code, 0);
  assert.match(out, /total\s+856,544/);
  assert.match(run("doctor").out, /\[\[19,22\],\[43,50\]\]/);
});

cli("an addon that does not load is one line of error and what to do", () => {
  const env = { ...process.env, QUADMAMBA_ADDON: join(work, "missing.node") };
  const { status, stderr } = spawnSync(process.execPath, [main, "doctor"], {
    cwd: work,
    env,
    encoding: "utf8",
  });
  assert.is(status, 1);
  assert.match(stderr, /^error: addon: could not be loaded/);
  assert.not.match(stderr, /\n {4}at /);
});

cli("train, eval, predict, resume", async () => {
  const trained = run("train", "--config", config, "--out", "run", "--threads", "1");
  assert.is(trained.code, 0, trained.err);
  assert.match(trained.out, /epoch 2: test accuracy/);
  assert.match(run("eval", "run/best.safetensors").out, /top-1 .* top-5/);

  await sharp({
    create: { width: 20, height: 10, channels: 3, background: "white" },
  })
    .png()
    .toFile(join(work, "white.png"));
  writeFileSync(join(work, "broken.png"), "no image");
  const predicted = run("predict", "run/best.safetensors", "broken.png", "missing.png", "white.png");
  assert.is(predicted.code, 1);
  assert.match(predicted.err, /broken\.png/);
  assert.match(predicted.err, /missing\.png/);
  assert.match(predicted.out, /^white\.png: \d .* %/);

  assert.is(run("train", "--config", config, "--out", "run").code, 0);
  const other = run("train", "--config", config, "--out", "run", "--seed", "4");
  assert.is(other.code, 2);
  assert.match(other.err, /seed 0 there, 4 here/);
  assert.is(run("train", "--resume", "run").code, 0);
  assert.match(run("verify-run", "run").out, /8 steps repeated: the same/);
  const sized = run("eval", "run/best.safetensors", "--image-size", "24", "--batch-size", "7");
  assert.match(sized.out, /20 test images on 24 x 24.*in batches of 7 with 0 workers/s);
  assert.is(run("eval", "nowhere.safetensors").code, 1);
});

for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  cli(`${signal} ends the step, saves, exits ${code}`, async () => {
    const out = join(work, signal);
    const long = ["train", "--config", config, "--epochs", "100000", "--out", out];
    const child = spawn(process.execPath, [main, ...long], {
      cwd: work,
      stdio: "ignore",
    });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    while (!existsSync(join(out, "metrics.jsonl")) && child.exitCode === null)
      await new Promise((resolve) => setTimeout(resolve, 50));
    child.kill(signal);
    assert.is(await ended, code);
    const { tensors, metadata } = loadSafetensors(join(out, "last.safetensors"));
    assert.ok(JSON.parse(metadata.get("state") as string).step > 0);
    for (const t of tensors.values()) t.dispose();
  });
}

cli("a disk that is full costs a clear error, not a half-written file", () => {
  mkdirSync(join(work, "full"));
  const limited = `ulimit -f 40; exec "${process.execPath}" "${main}" train --config "${config}" --epochs 1 --out full/run`;
  const { status, stderr, stdout } = spawnSync("bash", ["-c", limited], {
    cwd: work,
    encoding: "utf8",
  });
  assert.is(status, 1);
  assert.match(stdout, /warning: .*last\.safetensors/);
  assert.match(stderr, /^error: .*last\.safetensors/m);
  assert.not.ok(existsSync(join(work, "full/run/last.safetensors")));
  assert.match(readFileSync(join(work, "full/run/config.json"), "utf8"), /"epochs": 1/);
});

cli.run();
