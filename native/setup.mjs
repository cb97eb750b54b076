// Brings a checkout to the point where it runs: packages, addon, compiled TypeScript. Does only what is missing, so the
// pre-scripts of `npm start`, `npm test` and `npm run bench` call it every time. Needs nothing but Node to begin with.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const force = process.argv.includes("--force");

export function fail(message) {
  console.error(`\nquadmamba setup: ${message}`);
  process.exit(1);
}

export function run(command, args, options = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: "inherit",
    ...options,
  });
  if (result.error) fail(`${command} could not be started: ${result.error.message}`);
  return result.status ?? 1;
}

/** A hash of the names and contents of all files below the given folders or files. */
function fingerprint(paths) {
  const hash = createHash("sha256");
  const visit = (path) => {
    const entries = readdirSync(join(root, path), { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (entry.name === "build" || entry.name === "node_modules") continue;
      const child = `${path}/${entry.name}`;
      if (entry.isDirectory()) visit(child);
      else add(child);
    }
  };
  const add = (path) => hash.update(`${path}\0`).update(readFileSync(join(root, path)));
  for (const path of paths) path.includes(".") ? add(path) : existsSync(join(root, path)) && visit(path);
  return hash.digest("hex");
}

/** Runs `build` unless `output` exists and was made from the same sources. */
function ensure(name, output, sources, build) {
  const stamp = join(root, dirname(output), `.${name}.sha256`);
  const wanted = fingerprint(sources);
  const found = existsSync(stamp) && existsSync(join(root, output)) ? readFileSync(stamp, "utf8") : "";
  if (found === wanted && !force) return;
  build();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, wanted);
}

function main() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    fail(`needs Node 20.19 or later, this is ${process.versions.node}`);

  if (
    !existsSync(join(root, "node_modules/typescript")) ||
    !existsSync(join(root, "node_modules/node-addon-api"))
  ) {
    console.log("quadmamba setup: installing packages");
    // `prepare` would call this script again; the steps below follow anyway.
    const lock = existsSync(join(root, "package-lock.json"));
    if (run("npm", [lock ? "ci" : "install", "--ignore-scripts", "--no-audit", "--no-fund"]) !== 0)
      fail("npm could not install the packages (see its message above)");
  }
  ensure("addon", "build/Release/quadmamba.node", ["native", "CMakeLists.txt", "package.json"], () => {
    if (run(process.execPath, [join(root, "native/build.mjs")]) !== 0) process.exit(1);
  });
  const sources = ["lib", "test", "bench", "examples", "tsconfig.json", "package.json"];
  ensure("typescript", "dist/lib/index.js", sources, () => {
    console.log("quadmamba setup: compiling TypeScript");
    if (run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "."]) !== 0)
      fail("tsc found errors");
  });
}

main();
