import { mkdirSync } from "node:fs";
import { join, parse } from "node:path";
import type { Command, Option } from "commander";
import { type BatchData, Loader, prepareFile, range, type DataSource } from "../data/index.js";
import { asFileError, writeFileAtomic } from "../io/atomic_write.js";
import { createQuadMamba } from "../models/quadmamba/model.js";
import { areaOf, effectiveReceptiveField, type Field, withinRadius } from "../report/erf.js";
import { DECADES, fieldsPicture } from "../report/erf_picture.js";
import type { PartitionMap } from "../report/partition_map.js";
import { partitionPictures } from "../report/partition_pictures.js";
import { imagesOf, preparedBatch } from "../report/pictures.js";
import { seePartitions } from "../report/see_partitions.js";
import { setThreads } from "../tensor/memory.js";
import { manualSeed } from "../tensor/random.js";
import { type Checkpoint, disposeCheckpoint } from "../train/checkpoint.js";
import { loadDataOf } from "../train/checkpoint_data.js";
import { percent } from "../train/console_report.js";
import { loadCheckpoint, modelOf, type Weights } from "../train/index.js";
import { type Placement, requirePlacement } from "../train/placement.js";
import { FileError } from "../util/errors.js";
import { deviceOption, placementOptions, weightsOption, wholeNumber } from "./options.js";

const QUADRANT_NAMES = ["top left", "top right", "bottom left", "bottom right"];
/** Images of a batch whose gradients are taken. */
const FIELD_BATCH = 10;

interface Options extends Partial<Placement> {
  out: string;
  weights?: Weights;
  threads?: number;
  data?: string;
}

export function addVisualize(program: Command): void {
  const visualize = program.command("visualize").description("pictures of what a trained model does");
  const partition = withOptions(visualize.command("partition"), placementOptions())
    .description("scores and windows of every quad block over images")
    .argument("<checkpoint>", "last.safetensors or best.safetensors of a run")
    .argument("<images...>", "image files, or images of the data set such as test:17 or train:0")
    .option("--invert", "for dark drawings on white paper: MNIST and Fashion-MNIST are light on black")
    .addHelpText(
      "after",
      `
Writes two pictures for each block, side by side: its scores (from violet to yellow) and its windows (white between quadrants,
orange around the chosen one and the windows it is read as); and a sheet of all blocks.

Example:
  quadmamba visualize partition runs/mnist-1/best.safetensors test:17 seven.png`,
    );
  partition.action(drawPartitions);
  const erf = withOptions(visualize.command("erf"), [deviceOption()])
    .description("effective receptive field before and after training")
    .argument("<checkpoint>", "last.safetensors or best.safetensors of a run")
    .option("--samples <n>", "test images to average over", wholeNumber(1), 50)
    .option("--size <pixels>", "resize images to this square (default: the run's size)", wholeNumber(8))
    .addHelpText(
      "after",
      `
The gradient of the centre token of the last stage with respect to each pixel. A token of that stage is 32 pixels wide: a field has a
shape to speak of from about 128 pixels up.

Example:
  quadmamba visualize erf runs/mnist-1/best.safetensors --size 128 --samples 20`,
    );
  erf.action(drawFields);
}

function withOptions(command: Command, placement: Option[]): Command {
  for (const option of [...placement, weightsOption()]) command.addOption(option);
  return command
    .option("--data <name>", "another data set than the run's")
    .option("--threads <n>", "CPU threads (default: all cores)", wholeNumber(1))
    .option("--out <folder>", "folder of the pictures", "pictures");
}

async function drawPartitions(
  path: string,
  names: string[],
  options: Options & { invert?: boolean },
): Promise<void> {
  const placement = begin(options);
  const checkpoint = loadCheckpoint(path);
  const model = modelOf(checkpoint, options.weights).to(placement.device);
  try {
    if (model.quadBlocks.length === 0)
      throw new FileError("visualize", `${path} has no quad blocks`, "a model with quadStages");
    let source: Promise<DataSource> | undefined; // loaded once, if an image of it is asked for
    const load = () => (source ??= loadDataOf(path, checkpoint, options.data));
    for (const [k, name] of names.entries()) {
      const batch = await readImage(name, checkpoint, load, options.invert);
      const [maps] = seePartitions(model, batch, placement);
      const [image] = imagesOf(batch, checkpoint.prepare);
      console.log(name);
      for (const map of maps) console.log(`  ${describe(map)}`);
      // Numbered, because files of different folders may have the same name.
      const stem = `${k + 1}-${parse(name).name.replace(/[^\w-]+/g, "-")}`;
      for (const picture of await partitionPictures(image, maps))
        write(options.out, `${stem}-${picture.name}.png`, picture.png);
    }
  } finally {
    model.dispose();
    disposeCheckpoint(checkpoint);
  }
}

function begin(options: Options): Placement {
  if (options.threads) setThreads(options.threads);
  try {
    mkdirSync(options.out, { recursive: true });
  } catch (error) {
    throw asFileError("visualize", options.out, "cannot be made", error);
  }
  return requirePlacement("visualize", { device: "cpu", precision: "fp32", ...options });
}

function write(folder: string, name: string, png: Buffer): void {
  const path = join(folder, name);
  writeFileAtomic(path, [png]);
  console.log(`written ${path}`);
}

/** A batch of one: an image of the data set, or a file. */
async function readImage(
  name: string,
  checkpoint: Checkpoint,
  load: () => Promise<DataSource>,
  invert: boolean | undefined,
): Promise<BatchData> {
  const [, split, number] = /^(test|train):(\d+)$/.exec(name) ?? [];
  if (split === undefined)
    return prepareFile(name, { ...checkpoint, channels: checkpoint.model.inChannels }, invert);
  const source = await load();
  return preparedBatch(source[split as "test" | "train"], [Number(number)], checkpoint.prepare);
}

function describe({ stage, block, coarse, choice, height, width }: PartitionMap): string {
  const window =
    coarse === QUADRANT_NAMES.length ? `the ${QUADRANT_NAMES[choice]} quadrant` : `window ${choice}`;
  return `stage ${stage}, block ${block}: ${height} x ${width} tokens, reads ${window} finely`;
}

async function drawFields(
  path: string,
  options: Options & { samples: number; size?: number },
): Promise<void> {
  const { device } = begin(options);
  const checkpoint = loadCheckpoint(path);
  const { test } = await loadDataOf(path, checkpoint, options.data);
  const count = Math.min(options.samples, test.count);
  manualSeed(checkpoint.config.seed);
  const before = createQuadMamba(checkpoint.model).to(device);
  const after = modelOf(checkpoint, options.weights).to(device);
  const prepare = options.size
    ? { ...checkpoint.prepare, size: options.size, fit: "resize" as const }
    : checkpoint.prepare;
  const loader = new Loader(test, prepare, { classes: checkpoint.model.numClasses });
  try {
    const fields = [];
    for (const [title, model] of [
      ["before training", before],
      ["after training", after],
    ] as const) {
      const field = await effectiveReceptiveField(model, batches(loader, count), device);
      fields.push({ title, field });
      console.log(`${title.padEnd(15)} ${numbers(field)}`);
    }
    console.log(
      `mean of ${count} test images; colours over ${DECADES} powers of ten below the strongest pixel`,
    );
    write(options.out, "erf.png", await fieldsPicture(fields));
  } finally {
    await loader.dispose();
    before.dispose();
    after.dispose();
    disposeCheckpoint(checkpoint);
  }
}

async function* batches(loader: Loader, end: number): AsyncGenerator<BatchData> {
  for (let k = 0; k < end; k += FIELD_BATCH)
    yield await loader.batch(range(k, Math.min(end, k + FIELD_BATCH)));
}

function numbers(field: Field): string {
  const side = Math.min(field.height, field.width);
  const radii = [8, 4, 2].map(
    (part) => `${percent(withinRadius(field, side / part))} within ${side / part} pixels`,
  );
  const areas = [0.5, 0.95].map(
    (share) => `${100 * share} % in ${percent(areaOf(field, share))} of the area`,
  );
  return `around pixel ${field.centre.join(", ")}: ${[...radii, ...areas].join(", ")}`;
}
