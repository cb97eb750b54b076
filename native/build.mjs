// Builds the addon into build/Release/quadmamba.node: with cmake-js where cmake is installed, else with node-gyp. With the
// argument `sanitize` into build/asan/Release, instrumented (CMake only). Downloads nothing.
//
// The CUDA part (CMake, nvcc 12.4 or later) is built where there is an NVIDIA GPU, or where QUADMAMBA_CUDA=on asks for it;
// QUADMAMBA_CUDA=off leaves it out. QUADMAMBA_CUDA_ARCHITECTURES="90a;PTX" picks other targets than the default ones.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const sanitize = process.argv.includes("sanitize");

const available = (tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).status === 0;
const node = (script, args, env) =>
  spawnSync(process.execPath, [script, ...args], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, ...env },
  }).status;

/** "ON" or "OFF", for CMake. Compiling for GPUs takes minutes: not without need. */
function cudaOption() {
  const asked = process.env.QUADMAMBA_CUDA;
  if (asked === "on" || asked === "off") return asked.toUpperCase();
  if (asked) fail(`QUADMAMBA_CUDA is ${asked}; expected on or off`);
  if (["/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg"].some(existsSync)) return "ON";
  console.log(
    "quadmamba build: no CUDA part, because there is no NVIDIA GPU here (QUADMAMBA_CUDA=on builds it)",
  );
  return "OFF";
}

function fail(message) {
  console.error(`\nquadmamba build: ${message}`);
  process.exit(1);
}

const compiler = process.env.CXX ?? ["c++", "g++", "clang++"].find(available);
if (!compiler || !available(compiler))
  fail(
    `no C++ compiler found (looked for ${process.env.CXX ?? "c++, g++, clang++"}); install one, such as g++ 10 or later`,
  );

if (available("cmake")) {
  const out = sanitize ? "build/asan" : "build";
  console.log(`quadmamba build: cmake-js${sanitize ? " with sanitizers" : ""} (${compiler})`);
  // `compile` keeps the cache of an earlier configuration, which may name tools that are gone
  rmSync(join(root, out, "CMakeCache.txt"), { force: true });
  const cmakeJs = join(dirname(require.resolve("cmake-js/package.json")), "bin/cmake-js");
  const args = ["compile", "--log-level", "error", "-O", out, "-B", "Release", "-p", "2"];
  const options = [
    `--CDQM_SANITIZE=${sanitize ? "ON" : "OFF"}`,
    `--CDQM_CUDA=${sanitize ? "OFF" : cudaOption()}`,
  ];
  const targets = process.env.QUADMAMBA_CUDA_ARCHITECTURES;
  if (targets) options.push(`--CDQM_CUDA_ARCHITECTURES=${targets}`);
  if (node(cmakeJs, [...args, ...options]) !== 0)
    fail("the compiler's message is above; cmake-js could not build the addon");
} else {
  if (sanitize) fail("the sanitizer build needs cmake, which was not found");
  const python = process.env.PYTHON ?? "python3";
  for (const tool of [python, "make"])
    if (!available(tool))
      fail(
        `cmake was not found, and node-gyp needs ${tool}, which is missing too; install cmake, or ${tool}`,
      );
  console.log(`quadmamba build: node-gyp (cmake was not found; ${compiler})`);
  // Node's own headers, where they are installed beside it, keep node-gyp from downloading them
  const prefix = dirname(dirname(process.execPath));
  const headers = existsSync(join(prefix, "include/node/common.gypi")) ? [`--nodedir=${prefix}`] : [];
  const nodeGyp = join(dirname(require.resolve("node-gyp/package.json")), "bin/node-gyp.js");
  if (node(nodeGyp, ["rebuild", "--directory", "native", "-j", "2", ...headers]) !== 0)
    fail("the compiler's message is above; node-gyp could not build the addon");
  mkdirSync(join(root, "build/Release"), { recursive: true });
  copyFileSync(join(root, "native/build/Release/quadmamba.node"), join(root, "build/Release/quadmamba.node"));
}
