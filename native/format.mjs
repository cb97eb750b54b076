// Checks (or, with --write, applies) native/.clang-format to all C++ and CUDA sources.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

function sources(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === "build") return [];
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return /\.(h|cpp|cu|cuh)$/.test(entry.name) ? [path] : [];
  });
}

// The version in package.json, so that everybody's is the same.
const script = join(dirname(createRequire(import.meta.url).resolve("clang-format/package.json")), "index.js");
const mode = process.argv.includes("--write") ? ["-i"] : ["--dry-run", "--Werror"];
const result = spawnSync(process.execPath, [script, ...mode, "--style=file", ...sources(here)], {
  cwd: here,
  stdio: "inherit",
});
process.exit(result.status ?? 1);
