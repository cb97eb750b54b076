/** Rows of the JavaScript peers: timed, printed, saved, and set against ours. */
import { readFileSync, writeFileSync } from "node:fs";

/** Repetitions at most; of slow calls as many as fit into the milliseconds, but three. */
const REPETITIONS = 15;
const BUDGET_MS = 1000;
const FEWEST = 3;

/** Times `run`, awaited, after one call that is not counted, and prints the row. */
export async function time(rows, group, name, run) {
  const call = async () => {
    const begin = performance.now();
    await run();
    return performance.now() - begin;
  };
  const times = [];
  let spent = await call();
  while (times.length < FEWEST || (times.length < REPETITIONS && spent < BUDGET_MS)) {
    const ms = await call();
    times.push(ms);
    spent += ms;
  }
  times.sort((a, b) => a - b);
  const [ms, p10, p90] = [0.5, 0.1, 0.9].map((q) => quantile(times, q));
  rows.push({ group, name, ms, p10, p90, repetitions: times.length });
  console.log(`  ${name.padEnd(54)} ${ms.toFixed(3).padStart(9)} ms  (${p10.toFixed(3)}-${p90.toFixed(3)})`);
}

function quantile(sorted, q) {
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(sorted.length - 1, low + 1)] - sorted[low]);
}

/** Writes the rows and prints peer / ours for those of the same name: above 1, ours is faster. */
export function finish(rows, about, { json, against }) {
  if (json) {
    const machine = { node: process.versions.node, peer: about };
    writeFileSync(json, `${JSON.stringify({ machine, rows }, null, 1)}\n`);
  }
  if (!against) return;
  const peers = named(rows);
  console.log(`\n  ${"".padEnd(80)} ${"ours ms".padStart(10)} ${"peer ms".padStart(10)}  peer/ours`);
  for (const [key, ours] of named(JSON.parse(readFileSync(against, "utf8")).rows)) {
    const peer = peers.get(key);
    if (!peer) continue;
    const cells = [ours.ms.toFixed(3), peer.ms.toFixed(3), (peer.ms / ours.ms).toFixed(2)];
    console.log(`  ${key.padEnd(80)} ${cells.map((cell) => cell.padStart(10)).join(" ")}`);
  }
}

/** Rows by group and full name: an indented one belongs to the one above it. */
function named(list) {
  let head = "";
  return new Map(
    list.map((row) => {
      const indented = row.name.startsWith(" ");
      if (!indented) head = row.name;
      return [`${row.group}: ${indented ? `${head} /${row.name}` : row.name}`, row];
    }),
  );
}
