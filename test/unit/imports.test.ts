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
  native: ["util"],
  tensor: ["native", "util"],
  autograd: ["tensor", "util"],
  ops: ["autograd", "tensor", "native", "util"],
  nn: ["ops", "autograd", "tensor", "util"],
  optim: ["nn", "ops", "tensor", "util"],
  io: ["nn", "ops", "tensor", "util"],
  data: ["io", "ops", "tensor", "native", "util"],
  models: ["nn", "ops", "tensor", "util"],
  train: ["models", "data", "io", "optim", "nn", "ops", "autograd", "tensor", "native", "util"],
  cli: ["train", "models", "data", "io", "optim", "nn", "ops", "autograd", "tensor", "native", "util"],
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

imports("native: only binding/ knows Node, and kernels know neither Node nor each other's device", () => {
  for (const path of files(join(root, "native"), /\.(h|cpp|cu|cuh)$/)) {
    const name = relative(join(root, "native"), path);
    const text = readFileSync(path, "utf8");
    const includes = [...text.matchAll(/#include [<"]([^>"]+)[>"]/g)].map(([, file]) => file);
    if (!name.startsWith("binding/")) assert.not.ok(includes.includes("napi.h"), `${name} includes napi.h`);
    if (name.startsWith("core/") || name.startsWith("formulas/"))
      assert.not.ok(
        includes.some((file) => /^(cpu|cuda|binding)\//.test(file)),
        `${name} includes a device`,
      );
    if (name.startsWith("cpu/"))
      assert.not.ok(
        includes.some((file) => /^(cuda|binding)\//.test(file)),
        `${name} includes cuda or binding`,
      );
  }
});

imports("no Math.random anywhere in lib", () => {
  for (const path of files(join(root, "lib"), /\.ts$/))
    assert.not.match(readFileSync(path, "utf8"), /Math\.random\(/);
});

imports.run();
