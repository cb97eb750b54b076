import type { Command } from "commander";
import { type Checked, checkData } from "../data/index.js";

export function addCheckData(program: Command): void {
  program
    .command("check-data")
    .description("decode every file of an image folder, or verify a packed file, and list what is wrong")
    .argument("<data>", "a folder of train/CLASS and val/CLASS, a packed file, or the name of a data set")
    .addHelpText(
      "after",
      `
Exit codes: 0 nothing is wrong, 1 something is.

Examples:
  quadmamba check-data DIR
  quadmamba check-data photos.qmpack`,
    )
    .action(async (what: string) => {
      const found = await checkData(what);
      for (const line of describe(found)) console.log(line);
      if (found.problems.length > 0) process.exitCode = 1;
    });
}

function describe({ name, classes, height, width, passedOver, problems }: Checked): string[] {
  const total = (split: "train" | "test") => classes.reduce((sum, one) => sum + one[split], 0);
  const rows = [
    ["class", "train", "test"],
    ...classes.map(({ name: one, train, test }) => [one, `${train}`, `${test}`]),
    ["all", `${total("train")}`, `${total("test")}`],
  ];
  const [first, ...others] = [0, 1, 2].map((k) => Math.max(...rows.map((row) => row[k].length)));
  const lines = rows.map(([one, ...counts]) =>
    [one.padEnd(first), ...counts.map((count, k) => count.padStart(others[k]))].join("  "),
  );
  const span = ([low, high]: [number, number]) => (low === high ? `${low}` : `${low} to ${high}`);
  return [
    name,
    ...lines,
    ...(height && width ? [`height ${span(height)}, width ${span(width)} pixels`] : []),
    ...(passedOver > 0 ? [`${passedOver} other files, which are passed over`] : []),
    ...(problems.length === 0 ? ["nothing is wrong"] : [`wrong: ${problems.length}`, ...problems]),
  ];
}
