import { extname } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { writeFileAtomic } from "../io/atomic_write.js";
import { saveSafetensors } from "../io/safetensors.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { exportOnnx, OPSETS } from "../onnx/model.js";
import { TOLERANCE, verifyOnnx } from "../onnx/verify.js";
import { disposeCheckpoint } from "../train/checkpoint.js";
import { type Checkpoint, loadCheckpoint, modelOf, type Weights } from "../train/index.js";
import { ArgumentError, ConfigError, FileError } from "../util/errors.js";
import { weightsOption, wholeNumber } from "./options.js";

interface ExportOptions {
  weights: Weights;
  opset: number;
  size?: [number, number];
  normalise?: boolean;
  verify?: boolean;
}

export function addExport(program: Command): void {
  program
    .command("export")
    .description(
      "a checkpoint's weights for PyTorch (.safetensors), or its classifier for any runtime (.onnx)",
    )
    .argument("<checkpoint>", "last.safetensors or best.safetensors of a run, or one that import wrote")
    .argument("<out>", ".safetensors: names and shapes of the PyTorch model; .onnx: standard operators only")
    .addOption(weightsOption())
    .option(
      "--opset <n>",
      `onnx: version of the operator set, ${OPSETS.first} to ${OPSETS.last}`,
      wholeNumber(OPSETS.first, OPSETS.last),
      OPSETS.first,
    )
    .option(
      "--size <pixels>",
      "onnx: side of the images, or ROWSxCOLUMNS (default: that of training)",
      imageSize,
    )
    .option("--normalise", "onnx: the graph takes pixels from 0 to 1 and normalises them itself")
    .option("--verify", "onnx: fail unless the file was run (needs the package onnxruntime-web)")
    .addHelpText("after", "\nExample:\n  quadmamba export runs/mnist-1/best.safetensors mnist.onnx --verify")
    .action(async (path: string, out: string, options: ExportOptions) => {
      const extension = extname(out);
      if (extension !== ".safetensors" && extension !== ".onnx")
        throw new ConfigError(
          "export",
          `the kind of ${out} is not known`,
          ".safetensors or .onnx",
          extension,
        );
      const checkpoint = loadCheckpoint(path);
      const model = modelOf(checkpoint, options.weights).eval();
      if (extension === ".onnx") await toOnnx(model, checkpoint, out, options);
      else toSafetensors(model, out);
      model.dispose();
      disposeCheckpoint(checkpoint);
    });
}

function toSafetensors(model: QuadMamba, out: string): void {
  const state = model.stateDict();
  // `format` is what Python libraries look for; the configuration is for people.
  saveSafetensors(out, state, { format: "pt", config: JSON.stringify(model.config) });
  console.log(`${out}: ${state.size} tensors`);
}

async function toOnnx(
  model: QuadMamba,
  { prepare, classes }: Checkpoint,
  out: string,
  options: ExportOptions,
): Promise<void> {
  const [height, width] = options.size ?? [prepare.size, prepare.size];
  const { mean, std } = prepare;
  const request = {
    height,
    width,
    opset: options.opset,
    normalise: options.normalise ? { mean, std } : undefined,
    metadata: { classes: JSON.stringify(classes), mean: JSON.stringify(mean), std: JSON.stringify(std) },
  };
  const file = exportOnnx(model, request);
  const difference = await verifyOnnx(model, file, request);
  if (difference === undefined && options.verify)
    throw new ArgumentError(
      "export",
      "the file cannot be verified",
      "the package onnxruntime-web (npm install)",
    );
  if (difference !== undefined && difference > TOLERANCE)
    throw new FileError(
      "export",
      `${out} was not written: in onnxruntime it gives other logits`,
      `a difference of at most ${TOLERANCE}`,
      difference.toExponential(1),
    );
  writeFileAtomic(out, file);
  const pixels = options.normalise ? "pixels from 0 to 1" : "normalised pixels";
  console.log(
    `${out}: images [batch, ${model.config.inChannels}, ${height}, ${width}], ${pixels}, opset ${options.opset}`,
  );
  console.log(
    difference === undefined
      ? "not verified: onnxruntime-web is not installed"
      : `verified in onnxruntime-web: logits differ by at most ${difference.toExponential(1)}`,
  );
}

/** "224" or "192x256", for commander. */
function imageSize(text: string): [number, number] {
  const [, rows, columns = rows] = /^(\d+)(?:x(\d+))?$/.exec(text) ?? [];
  if (!(Number(rows) >= 8 && Number(columns) >= 8))
    throw new InvalidArgumentError("expected a side of at least 8 pixels, or two as in 192x256.");
  return [Number(rows), Number(columns)];
}
