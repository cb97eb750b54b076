/** What a measured number depends on besides the code that was timed. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../native/addon.js";
import type { Device } from "../tensor/tensor.js";
import { environment } from "../train/environment.js";

export function machine(device: Device): Record<string, unknown> {
  return { ...environment(device), commit: commit() };
}

/** Of the checkout that the library runs from; an installed package has none. */
function commit(): string | undefined {
  const root = packageRoot();
  if (!existsSync(join(root, ".git"))) return undefined;
  try {
    return execFileSync("git", ["-C", root, "rev-parse", "HEAD"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return undefined; // no git here
  }
}

/** One line that stands above the numbers. */
export function describeMachine(found: Record<string, unknown>): string {
  const { cpu, cores, threads, isa, node, compiler, quadmamba, commit, device } = found;
  const gpu = typeof device === "object" && device !== null ? `${(device as { name: string }).name}; ` : "";
  return (
    `${gpu}${cpu}, ${cores} cores, ${threads} threads, ${isa}, Node ${node}, ${compiler}, ` +
    `quadmamba ${quadmamba}${commit ? ` at ${String(commit).slice(0, 12)}` : ""}`
  );
}
