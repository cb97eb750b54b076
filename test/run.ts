/**
 * Runs the tests in one process: all of them, or the files whose path contains one of the given words. Ends with a plain line
 * of counts. Drives uvu's queue itself, because uvu alone stays green when a hook throws or a suite never ran.
 *
 * Environment variables:
 * - QUADMAMBA_TEST_DEVICES=cpu,cuda: the devices of the tests that run on every device; default: those that are there
 * - QUADMAMBA_TEST_OPS=silu,matmul: the rows of ops/table that run, so that a faulty kernel can have a process of its own
 * - QUADMAMBA_TEST_CASES=2/5: of each of these rows the second of every five cases, for tools that make kernels very slow
 */
import { readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** What uvu queues for a suite: [error text or true, passed, skipped, total]. */
type SuiteRun = () => Promise<[string | boolean, number, number, number]>;
const uvu = globalThis as unknown as {
  UVU_DEFER: number;
  UVU_INDEX: number;
  UVU_QUEUE: SuiteRun[][];
};

const here = dirname(fileURLToPath(import.meta.url));
const words = process.argv.slice(2);

function testFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return testFiles(path);
      return entry.name.endsWith(".test.js") ? [path] : [];
    });
}

async function main(): Promise<void> {
  uvu.UVU_DEFER = 1;
  uvu.UVU_QUEUE = [];
  let [passed, failed, skipped] = [0, 0, 0];
  for (const path of testFiles(here)) {
    const name = relative(here, path);
    if (words.length > 0 && !words.some((word) => name.includes(word))) continue;
    const suites: SuiteRun[] = [];
    uvu.UVU_INDEX = uvu.UVU_QUEUE.push(suites) - 1;
    const begun = performance.now();
    console.log(name);
    await import(pathToFileURL(path).href);
    if (suites.length === 0) {
      console.log("  no suite ran");
      failed++;
    }
    for (const suite of suites) {
      const [errors, ok, skips, total] = await suite();
      if (typeof errors === "string") console.log(`\n${errors}`);
      passed += ok;
      failed += total - ok;
      skipped += skips;
    }
    console.log(`  ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  }
  console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
}

await main();
