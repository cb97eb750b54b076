import type { Command } from "commander";
import { setThreads } from "../tensor/memory.js";
import { disposeCheckpoint } from "../train/checkpoint.js";
import { loadDataOf } from "../train/checkpoint_data.js";
import { deviceLine, percent } from "../train/console_report.js";
import { evaluate, loadCheckpoint, modelOf, TestImages, type Weights } from "../train/index.js";
import { type Placement, requirePlacement } from "../train/placement.js";
import { workersOf } from "../train/workers.js";
import { placementOptions, weightsOption, wholeNumber } from "./options.js";

interface EvalOptions extends Partial<Placement> {
  data?: string;
  imageSize?: number;
  batchSize: number;
  workers?: number;
  weights?: Weights;
  threads?: number;
}

export function addEval(program: Command): void {
  const command = program.command("eval");
  for (const option of [...placementOptions(), weightsOption()]) command.addOption(option);
  command
    .description("test accuracy, loss and speed of a checkpoint")
    .argument("<checkpoint>", "last.safetensors or best.safetensors of a run")
    .option("--data <name>", "another data set than the run's")
    .option(
      "--image-size <pixels>",
      "another side of the square than the run's: any from 8 up",
      wholeNumber(8),
    )
    .option("--batch-size <n>", "images at a time", wholeNumber(1), 500)
    .option("--workers <n>", "threads that prepare images (default: the run's)", wholeNumber(0, 256))
    .option("--threads <n>", "CPU threads (default: all cores)", wholeNumber(1))
    .addHelpText(
      "after",
      "\nExamples:\n  quadmamba eval runs/mnist-1/best.safetensors\n  quadmamba eval runs/mnist-1/best.safetensors --image-size 48",
    )
    .action(async (path: string, options: EvalOptions) => {
      const placement = requirePlacement("eval", { device: "cpu", precision: "fp32", ...options });
      if (options.threads) setThreads(options.threads);
      const checkpoint = loadCheckpoint(path);
      const data = await loadDataOf(path, checkpoint, options.data);
      const model = modelOf(checkpoint, options.weights).to(placement.device);
      const prepare = { ...checkpoint.prepare, ...(options.imageSize && { size: options.imageSize }) };
      const workers = options.workers ?? workersOf({ ...checkpoint.config, device: placement.device }, data);
      const images = new TestImages(data.test, prepare, { classes: data.classes.length, workers });
      const { batchSize } = options;
      const result = await evaluate(model, images, { ...placement, evalBatchSize: batchSize });
      await images.dispose();
      console.log(deviceLine(placement));
      console.log(
        `data     ${data.name}: ${data.test.count} test images on ${prepare.size} x ${prepare.size} (${prepare.fit})`,
      );
      console.log(
        `weights  ${options.weights === "ema" ? "moving average" : "trained"}, of step ${checkpoint.state.step}, ${checkpoint.model.semantics} semantics`,
      );
      console.log(
        `top-1 ${percent(result.top1)}, top-5 ${percent(result.top5)}, loss ${result.loss.toFixed(4)}, ${Math.round(result.imagesPerSecond)} images/s in batches of ${batchSize} with ${workers} workers, loading included`,
      );
      console.log("\nclass           accuracy  most often taken for");
      result.confusion.forEach((row, label) => {
        const total = row.reduce((a, b) => a + b, 0);
        const [wrong] = row
          .map((n, k) => ({ n, k }))
          .filter(({ k }) => k !== label)
          .sort((a, b) => b.n - a.n);
        const confused = wrong && wrong.n > 0 ? `${data.classes[wrong.k]} (${wrong.n})` : "-";
        console.log(
          `${data.classes[label].padEnd(14)} ${percent(total > 0 ? row[label] / total : 0).padStart(9)}  ${confused}`,
        );
      });
      model.dispose();
      disposeCheckpoint(checkpoint);
    });
}
