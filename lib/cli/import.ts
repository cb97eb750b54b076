import { readFileSync } from "node:fs";
import { type Command, Option } from "commander";
import { asFileError } from "../io/atomic_write.js";
import { loadTorch } from "../io/pth/index.js";
import { type Semantics, VARIANTS, type Variant } from "../models/quadmamba/config.js";
import { inferConfig, variantOf } from "../models/quadmamba/infer.js";
import { createQuadMamba } from "../models/quadmamba/model.js";
import { differences } from "../nn/module.js";
import { saveImported, type Weights } from "../train/index.js";
import { ConfigError } from "../util/errors.js";
import { weightsOption, wholeNumber } from "./options.js";

interface ImportOptions {
  weights: Weights;
  semantics: Semantics;
  model?: Variant;
  size: number;
  classes?: string;
  strict: boolean;
}

export function addImport(program: Command): void {
  program
    .command("import")
    .description("a PyTorch checkpoint as one that eval, predict and export take")
    .argument("<file>", "a .pth that torch.save wrote (zip format); nothing in it is executed")
    .argument("<out>", "the checkpoint to write, .safetensors")
    .addOption(weightsOption())
    .addOption(
      new Option("--semantics <which>", "released: of the published weights; paper: of the paper")
        .choices(["released", "paper"])
        .default("released"),
    )
    .addOption(
      new Option(
        "--model <variant>",
        "refuse weights of another variant (default: what the shapes tell)",
      ).choices(Object.keys(VARIANTS)),
    )
    .option("--size <n>", "side of the images in evaluation, in pixels", wholeNumber(8), 224)
    .option("--classes <file>", "names of the classes, one a line (default: their numbers)")
    .option("--no-strict", "take what fits, and say what does not")
    .addHelpText("after", "\nExample:\n  quadmamba import quadmamba_tiny.pth tiny.safetensors --weights ema")
    .action(async (file: string, out: string, options: ImportOptions) => {
      const { tensors, key, contents } = await loadTorch(file, { weights: options.weights });
      const shapes = new Map([...tensors].map(([name, t]) => [name, t.shape]));
      const inferred = inferConfig(shapes);
      const { numClasses, inChannels } = inferred;
      const given = options.model && { variant: options.model, numClasses, inChannels };
      const model = createQuadMamba({ ...(given ?? inferred), semantics: options.semantics });
      const result = model.loadStateDict(tensors, { strict: options.strict });
      saveImported(out, model, {
        size: options.size,
        classes: classNames(options.classes, numClasses),
        contents,
      });
      console.log(
        `${out}: ${variantOf(model.config) ?? "a model of its own sizes"}, ${options.semantics} semantics, ${numClasses} classes; ` +
          `${result.matched.length} of ${model.stateDict().size} tensors from ${key ?? "the file"}${differences(result, 20)}`,
      );
      model.dispose();
      for (const t of tensors.values()) t.dispose();
    });
}

function classNames(file: string | undefined, count: number): string[] {
  if (file === undefined) return Array.from({ length: count }, (_, k) => String(k));
  const names = readText(file).trimEnd().split(/\r?\n/);
  if (names.length !== count)
    throw new ConfigError("import", `${file} does not name the classes`, `${count} lines`, `${names.length}`);
  return names;
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw asFileError("import", file, "cannot be read", error);
  }
}
