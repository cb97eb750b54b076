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

/** Runs the child from an export on, to its end or to a crash. */
function runChild(first: string | undefined, cwd: string): Promise<{ reports: Report[]; crashed: string | undefined }> {
  return new Promise((resolve) => {
    const script = fileURLToPath(new URL("./hostile_child.js", import.meta.url));
    const child = fork(script, first === undefined ? [] : [first], { cwd, stdio: ["ignore", "ignore", "pipe", "ipc"] });
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
      const ended = code === 0 && current === undefined;
      resolve({ reports, crashed: ended ? undefined : `${current ?? "at its end"} (exit ${code ?? signal})\n${stderr}` });
    });
  });
}

test("every call succeeds or throws a typed error, and nothing crashes", async () => {
  const cwd = mkdtempSync(join(tmpdir(), "hostile-"));
  try {
    const { reports, crashed } = await runChild(undefined, cwd);
    const calls = reports.reduce((sum, report) => sum + report.calls, 0);
    console.log(`  ${calls} hostile calls of ${reports.length} functions`);
    assert.is(crashed, undefined, `the process died in ${crashed}`);
    const failures = reports.flatMap(({ name, failures }) => failures.map((failure) => `${name}, ${failure}`));
    assert.is(failures.length, 0, `${failures.length} calls:\n${failures.slice(0, 60).join("\n")}`);
    assert.ok(calls > 20_000, `${calls} calls`);
  } finally {
    rmSync(cwd, { recursive: true, force: true });
  }
});

test.run();
