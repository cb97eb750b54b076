import type { Command } from "commander";
import { bestRow, figure, type RunRecord } from "../report/run_record.js";
import { writeReport } from "../report/report.js";
import { setThreads } from "../tensor/memory.js";
import { percent } from "../train/console_report.js";
import type { Weights } from "../train/index.js";
import { type Placement, requirePlacement } from "../train/placement.js";
import { placementOptions, weightsOption, wholeNumber } from "./options.js";

interface Options extends Partial<Placement> {
  data?: string;
  batchSize: number;
  weights: Weights;
  threads?: number;
}

export function addReport(program: Command): void {
  const command = program.command("report");
  for (const option of [...placementOptions(), weightsOption()]) command.addOption(option);
  command
    .description("a run as one HTML page: curves, confusion, mistakes, partitions, configuration")
    .argument("<run>", "folder of a run")
    .option("--data <name>", "another data set than the run's")
    .option("--batch-size <n>", "images at a time", wholeNumber(1), 500)
    .option("--threads <n>", "CPU threads (default: all cores)", wholeNumber(1))
    .addHelpText(
      "after",
      `
Writes report.html into the folder. The page needs no network and no other file; what is missing is left out and named there.

Example:
  quadmamba report runs/mnist-1`,
    )
    .action(async (folder: string, { batchSize, threads, data, weights, ...given }: Options) => {
      const placement = requirePlacement("report", { device: "cpu", precision: "fp32", ...given });
      if (threads) setThreads(threads);
      const options = { ...placement, evalBatchSize: batchSize, weights, data };
      const { path, bytes, record, evaluation, checkpoint, leftOut } = await writeReport(folder, options);
      console.log(bestLine(record));
      if (evaluation)
        console.log(
          `tested   ${checkpoint}: top-1 ${percent(evaluation.top1)}, top-5 ${percent(evaluation.top5)}, loss ${evaluation.loss.toFixed(4)}, ${Math.round(evaluation.imagesPerSecond)} images/s`,
        );
      for (const text of leftOut) console.log(`left out ${text}`);
      console.log(`written  ${path} (${Math.ceil(bytes / 1000)} kB)`);
    });
}

function bestLine({ metrics }: RunRecord): string {
  const best = (key: string): string | undefined => {
    const row = bestRow(metrics, key);
    return row && `${percent(figure(row, key) as number)} in epoch ${row.epoch + 1}`;
  };
  const [trained, average] = [best("testAccuracy"), best("emaTestAccuracy")];
  if (!trained) return "best     no epoch has ended yet";
  return `best     test accuracy ${trained}${average ? `, of the moving average ${average}` : ""}`;
}
