// Runs the tests against an addon built with AddressSanitizer and UndefinedBehaviorSanitizer. Any report ends the run.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const run = (command, args, env = {}) =>
  spawnSync(command, args, {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, ...env },
  }).status ?? 1;

if (run(process.execPath, [join(root, "native/build.mjs"), "sanitize"]) !== 0) process.exit(1);

const compiler = process.env.CXX ?? "c++";
const runtime = (name) =>
  spawnSync(compiler, [`-print-file-name=${name}`], {
    encoding: "utf8",
  }).stdout.trim();
process.exit(
  run(process.execPath, [join(root, "dist/test/run.js"), ...process.argv.slice(2)], {
    QUADMAMBA_ADDON: join(root, "build/asan/Release/quadmamba.node"),
    LD_PRELOAD: `${runtime("libasan.so")} ${runtime("libstdc++.so.6")}`,
    // Node itself keeps what it allocated at exit, so leaks are counted by the tests' own counters instead
    ASAN_OPTIONS: "detect_leaks=0:allocator_may_return_null=1:exitcode=99",
    UBSAN_OPTIONS: "print_stacktrace=1:halt_on_error=1",
  }),
);
