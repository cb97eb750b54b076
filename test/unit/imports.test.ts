/** The direction of dependency, read off the import lines. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../lib/native/addon.js";

const imports = suite("imports");
const root = packageRoot();

function files(folder: string, pattern: RegExp): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "build" ? [] : files(path, pattern);
    return pattern.test(entry.name) ? [path] : [];
  });
}

/** Each folder of lib/ and the folders it may import. */
const ALLOWED: Record<string, string[]> = {
  util: [],
  charts: [],
  native: ["util"],
  tensor: ["native", "util"],
  autograd: ["tensor", "util"],
  ops: ["autograd", "tensor", "native", "util"],
  nn: ["ops", "autograd", "tensor", "util"],
  optim: ["nn", "ops", "tensor", "util"],
  io: ["nn", "ops", "tensor", "util"],
  data: ["io", "ops", "tensor", "native", "util"],
  models: ["nn", "ops", "autograd", "tensor", "util"],
  onnx: ["models", "ops", "autograd", "tensor", "native", "util"],
  train: ["models", "data", "io", "optim", "nn", "ops", "autograd", "tensor", "native", "util"],
  bench: [
    "charts",
    "train",
    "models",
    "data",
    "io",
    "optim",
    "nn",
    "ops",
    "autograd",
    "tensor",
    "native",
    "util",
  ],
  report: ["charts", "train", "models", "data", "io", "nn", "ops", "autograd", "tensor", "native", "util"],
  cli: [
    "report",
    "bench",
    "onnx",
    "train",
    "models",
    "data",
    "io",
    "optim",
    "nn",
    "ops",
    "autograd",
    "tensor",
    "native",
    "util",
  ],
};

imports("lib: each folder imports only what stands before it", () => {
  for (const path of files(join(root, "lib"), /\.ts$/)) {
    const [folder, ...rest] = relative(join(root, "lib"), path).split("/");
    if (rest.length === 0) continue; // index.ts
    assert.ok(folder in ALLOWED, `lib/${folder} is not in the table of folders`);
    const depth = rest.length;
    for (const [, target] of readFileSync(path, "utf8").matchAll(
      /(?:from|import) "((?:\.\.\/)+[a-z_]+)\/[^"]*"/g,
    )) {
      const ups = target.split("/").filter((part) => part === "..").length;
      if (ups < depth) continue; // within the folder
      const other = target.split("/").at(-1) as string;
      assert.ok(
        other === folder || ALLOWED[folder].includes(other),
        `${relative(root, path)} imports lib/${other}`,
      );
    }
  }
});

/** Each folder of native/, the folders it may include, and the toolkits that only some may. */
const NATIVE: Record<string, { folders: string[]; toolkits?: RegExp }> = {
  core: { folders: [] },
  formulas: { folders: [] },
  cpu: { folders: ["core", "formulas"] },
  cuda: {
    folders: ["core", "formulas"],
    // the toolkit's own headers and CCCL's
    toolkits:
      /^(cuda|cub|thrust|cooperative_groups|mma|nv|driver_|vector_|device_|curand|cublas)[^/]*(\.h|\.cuh|\/)/,
  },
  bench: { folders: ["cpu"] },
  image: { folders: ["core", "cpu"], toolkits: /^jpeglib\.h$/ },
  binding: { folders: ["core", "cpu", "bench", "image"], toolkits: /^(napi|node_api|uv)\.h$/ },
};

imports(
  "native: each folder includes only what stands below it, and CUDA and Node only where they belong",
  () => {
    for (const path of files(join(root, "native"), /\.(h|hpp|cuh|cpp|cu|def)$/)) {
      const name = relative(join(root, "native"), path);
      const [folder, ...rest] = name.split("/");
      if (rest.length === 0) continue; // the op table
      assert.ok(folder in NATIVE, `native/${folder} is not in the table of folders`);
      for (const [, open, file] of readFileSync(path, "utf8").matchAll(
        /^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm,
      )) {
        if (open === '"' && file.includes("/")) {
          const [other] = file.split("/");
          assert.ok(other === folder || NATIVE[folder].folders.includes(other), `${name} includes ${file}`);
          continue;
        }
        for (const [owner, { toolkits }] of Object.entries(NATIVE))
          if (owner !== folder && toolkits?.test(file))
            assert.unreachable(`${name} includes ${file}, which only ${owner}/ may`);
      }
    }
  },
);

imports("no Math.random anywhere in lib", () => {
  for (const path of files(join(root, "lib"), /\.ts$/))
    assert.not.match(readFileSync(path, "utf8"), /Math\.random\(/);
});

imports.run();
