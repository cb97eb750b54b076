import type { Command } from "commander";
import sharp from "sharp";
import { noGrad } from "../autograd/mode.js";
import { batchOf } from "../data/index.js";
import { softmax } from "../ops/index.js";
import { scope } from "../tensor/scope.js";
import { type Checkpoint, disposeCheckpoint } from "../train/checkpoint.js";
import { percent } from "../train/console_report.js";
import { rank } from "../train/evaluate.js";
import { loadCheckpoint, modelOf, type Weights } from "../train/index.js";
import { inPrecision, type Placement, requirePlacement } from "../train/placement.js";
import { FileError } from "../util/errors.js";
import { placementOptions, weightsOption, wholeNumber } from "./options.js";

/** Decoding more would take gigabytes: the limit that Pillow warns at. */
const MAX_PIXELS = 89_478_485;

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
          const pixels = await decode(file, checkpoint, options.invert ?? false);
          const data = {
            images: pixels,
            labels: new Uint8Array(1),
            count: 1,
            ...checkpoint.image,
            channels: checkpoint.model.inChannels,
          };
          const probabilities = scope(() =>
            noGrad(() => {
              const { images } = batchOf(data, [0], checkpoint.prepare, undefined, device);
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

/** An image as bytes of the size of the training data, fitted whole, on black; what follows is as in evaluation. */
async function decode(
  file: string,
  { image: { height, width }, model }: Checkpoint,
  invert: boolean,
): Promise<Uint8Array> {
  try {
    let image = sharp(file, { limitInputPixels: MAX_PIXELS })
      .rotate()
      .flatten({ background: invert ? "white" : "black" });
    image = model.inChannels === 1 ? image.greyscale() : image.toColourspace("srgb");
    if (invert) image = image.negate({ alpha: false });
    const frame = { width, height, fit: "contain", background: "black" } as const;
    const { data, info } = await sharp(await image.png().toBuffer())
      .resize(frame)
      .raw()
      .toBuffer({ resolveWithObject: true });
    const pixels = new Uint8Array(height * width * model.inChannels);
    for (let k = 0; k < height * width; k++)
      for (let c = 0; c < model.inChannels; c++)
        pixels[k * model.inChannels + c] = data[k * info.channels + Math.min(c, info.channels - 1)];
    return pixels;
  } catch (error) {
    throw new FileError(
      "predict",
      `${file} could not be decoded: ${(error as Error).message.split("\n")[0]}`,
    );
  }
}
