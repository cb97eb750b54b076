/**
 * Every export of the library, and the addon below it, called with hostile values: each call succeeds or throws a typed error,
 * and the process lives on. In a child process, so that a crash is a failed test and names the export.
 */
import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Report } from "./hostile_child.js";

const test = suite("hostile calls");

/** Runs the child to its end or to a crash. */
function runChild(args: string[]): Promise<{ reports: Report[]; crashed: string | undefined }> {
  return new Promise((resolve) => {
    // files that are written by hostile names go where they do no harm
    const cwd = mkdtempSync(join(tmpdir(), "hostile-"));
    const script = fileURLToPath(new URL("./hostile_child.js", import.meta.url));
    const child = fork(script, args, { cwd, stdio: ["ignore", "ignore", "pipe", "ipc"] });
    const reports: Report[] = [];
    let current: string | undefined;
    let stderr = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-2000);
    });
    child.on("message", (message: Report | { begin: string }) => {
      if ("begin" in message) current = message.begin;
      else {
        reports.push(message);
        current = undefined;
      }
    });
    child.on("close", (code, signal) => {
      rmSync(cwd, { recursive: true, force: true });
      const ended = code === 0 && current === undefined;
      resolve({
        reports,
        crashed: ended ? undefined : `${current ?? "its end"} (exit ${code ?? signal})\n${stderr}`,
      });
    });
  });
}

function check({ reports, crashed }: Awaited<ReturnType<typeof runChild>>, leastCalls: number): void {
  const calls = reports.reduce((sum, report) => sum + report.calls, 0);
  console.log(`  ${calls} hostile calls of ${reports.length} functions`);
  if (crashed) assert.unreachable(`the process died in ${crashed}`);
  const failures = reports.flatMap(({ name, failures }) => failures.map((failure) => `${name}, ${failure}`));
  if (failures.length > 0)
    assert.unreachable(`${failures.length} calls:\n${failures.slice(0, 40).join("\n")}`);
  assert.ok(calls >= leastCalls, `${calls} calls`);
}

test("every export succeeds or throws a typed error, and nothing crashes", async () => {
  check(await runChild([]), 20_000);
});

test("the addon itself throws errors and does not crash", async () => {
  check(await runChild(["addon"]), 10_000);
});

test.run();
