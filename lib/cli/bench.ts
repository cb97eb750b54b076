import { mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { BATCH, type DataSpeedOptions, dataSpeed, ROUNDS, type Rate } from "../bench/data_speed.js";
import { describeMachine, machine } from "../bench/machine.js";
import { PASSES, SCAN_DTYPES } from "../bench/scan_case.js";
import { scanChart } from "../bench/scan_chart.js";
import { type ScanGrid, sweepScan } from "../bench/scan_sweep.js";
import { scanCsv } from "../bench/scan_table.js";
import { DATASET_NAMES, datasetName, loadDataset } from "../data/index.js";
import { asFileError, writeFileAtomic } from "../io/atomic_write.js";
import { listOf, nameOf, wholeNumber } from "./options.js";

interface DataFlags extends Omit<DataSpeedOptions, "workers"> {
  workers?: number;
}

const MAX_THREADS = 256;

export function addBench(program: Command): void {
  const bench = program.command("bench").description("time kernels and the loading of data on this machine");
  addData(bench);
  const sizes = listOf(wholeNumber(1));
  bench
    .command("scan")
    .description("time the selective scan over a grid of shapes, against plain loops in C++ and TypeScript")
    .option("--batch <list>", "sequences", sizes, [1])
    .option("--channels <list>", "channels of a direction", sizes, [96])
    .option("--length <list>", "tokens of a sequence", sizes, [64, 256, 1024, 4096])
    .option("--state <list>", "states of a channel (N)", sizes, [1, 16])
    .option("--directions <list>", "read forth and back by turns, summed on their tokens", sizes, [1])
    .option("--dtype <list>", `${SCAN_DTYPES.join(", ")} (on cuda)`, listOf(nameOf(SCAN_DTYPES)), ["float32"])
    .option("--pass <list>", "forward; training: forward and backward", listOf(nameOf(PASSES)), [...PASSES])
    .option("--threads <list>", "CPU threads (default: all cores)", listOf(wholeNumber(1, MAX_THREADS)), [])
    .addOption(new Option("--device <device>", "where to compute").choices(["cpu", "cuda"]).default("cpu"))
    .option("--out <folder>", "folder of scan.json, scan.csv and scan.html", "bench-results")
    .addHelpText(
      "after",
      `
Each option with <list> takes numbers or names with commas between them; every combination is timed, after its result has been
compared with the plain loop's. Copy bandwidth and peak are measured in the same run.

Examples:
  quadmamba bench scan
  quadmamba bench scan --batch 8 --channels 48,192 --length 196,784,3136 --state 1 --directions 4 --threads 1,2
  quadmamba bench scan --device cuda --batch 128 --channels 192 --dtype float32,bfloat16`,
    )
    .action(({ out, state, ...grid }: Omit<ScanGrid, "states"> & { state: number[]; out: string }) => {
      // before the minutes, not after them
      makeFolder(out);
      const sweep = sweepScan({ ...grid, states: state }, (line) => console.log(line));
      const files = {
        "scan.json": `${JSON.stringify(sweep, null, 1)}\n`,
        "scan.csv": scanCsv(sweep.rows),
        "scan.html": scanChart(sweep),
      };
      for (const [name, text] of Object.entries(files)) writeFileAtomic(join(out, name), [Buffer.from(text)]);
      console.log(
        `\nwritten: ${Object.keys(files)
          .map((name) => join(out, name))
          .join(", ")}`,
      );
    });
}

function addData(bench: Command): void {
  bench
    .command("data")
    .description("images a second that the loader prepares, beside sharp's plain decoding and resizing")
    .argument(
      "<data>",
      `a folder of train/CLASS and val/CLASS, a packed file, or ${DATASET_NAMES.join(", ")}`,
    )
    .option("--size <pixels>", "side of the square", wholeNumber(8, 4096), 224)
    .option("--workers <n>", "threads (default: all cores but one)", wholeNumber(0, MAX_THREADS))
    .option("--seconds <n>", "for all rounds together", wholeNumber(1), 20)
    .addOption(
      new Option("--augment <recipe>", "the training recipe for ImageNet, or resizing and cropping alone")
        .choices(["imagenet", "none"])
        .default("imagenet"),
    )
    .addHelpText(
      "after",
      `
Examples:
  quadmamba bench data DIR
  quadmamba bench data packed:photos.qmpack --augment none --workers 4`,
    )
    .action(
      async (what: string, { workers = Math.max(1, availableParallelism() - 1), ...flags }: DataFlags) => {
        const { name, train, classes } = await loadDataset(datasetName(what));
        console.log(describeMachine(machine("cpu")));
        console.log(
          `${name}: ${train.count} images to ${flags.size} x ${flags.size}, augment ${flags.augment}, ${workers} workers, batches of ${BATCH}, median of ${ROUNDS} rounds by turns`,
        );
        const found = await dataSpeed(train, classes.length, { ...flags, workers });
        console.log(`loader  ${describeRate(found.loader)}`);
        if (found.sharp)
          console.log(
            `sharp   ${describeRate(found.sharp)}: decode and resize alone; the loader does ${(found.loader.median / found.sharp.median).toFixed(2)} times as many`,
          );
      },
    );
}

function describeRate({ median, low, high }: Rate): string {
  return `${median.toFixed(0)} images/s (${low.toFixed(0)} to ${high.toFixed(0)})`;
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw asFileError("bench scan", path, "cannot be made", error);
  }
}
