import { statSync } from "node:fs";
import type { Command } from "commander";
import { DATASET_NAMES, datasetName, loadDataset, packData } from "../data/index.js";
import { wholeNumber } from "./options.js";

export function addPrepareData(program: Command): void {
  program
    .command("prepare-data")
    .description("convert a data set into one file that is mapped into memory, without decoding in training")
    .argument("<source>", `a folder of train/CLASS and val/CLASS, or ${DATASET_NAMES.join(", ")}`)
    .argument("<file>", "what to write; train with --data packed:FILE")
    .option(
      "--size <pixels>",
      "bring the shorter side to this, and take the centre (needed for image files)",
      wholeNumber(1, 4096),
    )
    .addHelpText(
      "after",
      `
Examples:
  quadmamba prepare-data folder:DIR photos.qmpack --size 256
  quadmamba train --data packed:photos.qmpack --fit crop`,
    )
    .action(async (source: string, file: string, { size }: { size?: number }) => {
      const data = await loadDataset(datasetName(source));
      await packData(data, file, size);
      const { train, test, classes } = data;
      const mebibytes = (statSync(file).size / 2 ** 20).toFixed(1);
      console.log(
        `${file}: ${train.count} + ${test.count} images of ${classes.length} classes, ${mebibytes} MiB`,
      );
    });
}
