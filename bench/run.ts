/** Runs all benches, or those whose name contains one of the given words. */
import { readdirSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { getThreads } from "../lib/index.js";
import { addonInfo } from "../lib/native/addon.js";

const here = dirname(fileURLToPath(import.meta.url));
const words = process.argv.slice(2);

console.log(
  `${cpus()[0].model}, ${addonInfo.isa}, ${getThreads()} threads, Node ${process.versions.node}, ${addonInfo.compiler}`,
);
console.log("median of the samples of one run; lower is better");
for (const entry of readdirSync(here, {
  recursive: true,
  encoding: "utf8",
}).sort()) {
  if (!entry.endsWith(".bench.js")) continue;
  const path = join(here, entry);
  if (words.length > 0 && !words.some((word) => relative(here, path).includes(word))) continue;
  const { run } = (await import(pathToFileURL(path).href)) as {
    run(): Promise<void>;
  };
  await run();
}
