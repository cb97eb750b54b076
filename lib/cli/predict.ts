import type { Command } from "commander";
import { noGrad } from "../autograd/mode.js";
import { prepareFile } from "../data/index.js";
import { softmax } from "../ops/index.js";
import { scope } from "../tensor/scope.js";
import { disposeCheckpoint } from "../train/checkpoint.js";
import { percent } from "../train/console_report.js";
import { toDevice } from "../train/device_batch.js";
import { rank } from "../train/evaluate.js";
import { loadCheckpoint, modelOf, type Weights } from "../train/index.js";
import { inPrecision, type Placement, requirePlacement } from "../train/placement.js";
import { FileError } from "../util/errors.js";
import { placementOptions, weightsOption, wholeNumber } from "./options.js";

interface PredictOptions extends Partial<Placement> {
  top: number;
  weights?: Weights;
  invert?: boolean;
}

export function addPredict(program: Command): void {
  const command = program.command("predict");
  for (const option of [...placementOptions(), weightsOption()]) command.addOption(option);
  command
    .description("the most probable classes of image files")
    .argument("<checkpoint>", "last.safetensors or best.safetensors of a run")
    .argument("<images...>", "files of any format that sharp reads (JPEG, PNG, WebP, TIFF, SVG, ...)")
    .option("--top <n>", "classes to show", wholeNumber(1), 3)
    .option("--invert", "for dark drawings on white paper: MNIST and Fashion-MNIST are light on black")
    .addHelpText("after", "\nExample:\n  quadmamba predict runs/mnist-1/best.safetensors seven.png --invert")
    .action(async (path: string, images: string[], options: PredictOptions) => {
      const { device, precision } = requirePlacement("predict", {
        device: "cpu",
        precision: "fp32",
        ...options,
      });
      const checkpoint = loadCheckpoint(path);
      const model = modelOf(checkpoint, options.weights).to(device).eval();
      for (const file of images) {
        try {
          const trained = { ...checkpoint, channels: checkpoint.model.inChannels };
          const batch = await prepareFile(file, trained, options.invert);
          const probabilities = scope(() =>
            noGrad(() => {
              const { images } = toDevice(batch, device);
              return softmax(model.forward(inPrecision(images, precision))).toTypedArray();
            }),
          );
          const best = rank(probabilities as Float32Array).slice(0, options.top);
          console.log(
            `${file}: ${best.map((k) => `${checkpoint.classes[k]} ${percent(Number(probabilities[k]))}`).join(", ")}`,
          );
        } catch (error) {
          if (!(error instanceof FileError)) throw error;
          console.error(`error: ${error.message}`);
          process.exitCode = 1;
        }
      }
      model.dispose();
      disposeCheckpoint(checkpoint);
    });
}
