/**
 * `npm run bench:compare BASE.json [NEW.json]`: new times over old ones, with the noise, row by row. Without NEW.json the last
 * `npm run bench`. Reads the files of all benches, `quadmamba bench scan` and bench/peers.
 */
import {
  changes,
  differences,
  geometricMean,
  LAST_RESULTS,
  readResults,
  verdict,
} from "./helpers/results.js";

const [basePath, nextPath = LAST_RESULTS, ...more] = process.argv.slice(2);
if (basePath === undefined || more.length > 0) {
  console.error("usage: npm run bench:compare BASE.json [NEW.json]");
  process.exit(2);
}
try {
  const [base, next] = [readResults(basePath), readResults(nextPath)];
  const found = changes(base.rows, next.rows);
  if (found.length === 0) throw new Error(`${basePath} and ${nextPath} have no row in common`);
  for (const line of differences(base.machine, next.machine)) console.log(`not the same ${line}`);
  const width = Math.max(...found.map(({ name }) => name.length));
  console.log(`${"".padEnd(width)}      base ms       new ms   new/base  (p10 to p90)`);
  for (const change of found) {
    const { name, base, next, ratio, low, high } = change;
    const times = `${base.ms.toPrecision(5).padStart(12)} ${next.ms.toPrecision(5).padStart(12)}`;
    console.log(
      `${name.padEnd(width)} ${times} ${ratio.toFixed(3).padStart(10)}  (${low.toFixed(2)} to ${high.toFixed(2)})  ${verdict(change)}`,
    );
  }
  const count = (word: string) => found.filter((change) => verdict(change) === word).length;
  console.log(
    `\n${found.length} rows: ${count("faster")} faster, ${count("slower")} slower; geometric mean of new/base ${geometricMean(found.map(({ ratio }) => ratio)).toFixed(3)}`,
  );
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exit(1);
}
