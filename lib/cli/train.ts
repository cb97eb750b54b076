import type { Command } from "commander";
import { consoleReport, percent } from "../train/console_report.js";
import { readConfigFile, train } from "../train/index.js";
import { ConfigError } from "../util/errors.js";
import { placementOptions, positiveNumber, wholeNumber } from "./options.js";

const EXIT_BY_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const;

export function addTrain(program: Command): void {
  const command = program.command("train");
  for (const option of placementOptions()) command.addOption(option);
  command
    .description("train from scratch, or go on with a run")
    .option("--config <file>", "YAML or JSON file with any of the configuration's keys; flags win over it")
    .option("--data <name>", "mnist, fashion-mnist or idx:DIR (default: mnist)")
    .option("--model <variant>", "nano, lite, tiny, small or base (default: nano)")
    .option("--epochs <n>", "passes over the training images (default: 3)", wholeNumber(1))
    .option("--batch-size <n>", "images per step (default: 256)", wholeNumber(1))
    .option("--lr <rate>", "peak learning rate (default: 1e-3)", positiveNumber)
    .option("--weight-decay <rate>", "decoupled weight decay (default: 0.05)", positiveNumber)
    .option(
      "--image-size <pixels>",
      "side of the square that images are centred on (default: 32)",
      wholeNumber(8),
    )
    .option(
      "--ema <decay>",
      "keep a moving average of the weights, such as 0.9999 (default: 0, none)",
      positiveNumber,
    )
    .option("--seed <n>", "seed of everything random (default: 0)", wholeNumber(0))
    .option("--threads <n>", "CPU threads (default: all cores); results do not depend on it", wholeNumber(1))
    .option("--no-graph", "on cuda: launch every kernel by itself instead of the recorded step")
    .option("--save-every <steps>", "save between epochs too", wholeNumber(0))
    .option("--out <folder>", "folder of the run (default: a new one in runs/)")
    .option("--resume <run>", "folder of a run, or a checkpoint in it, to go on from")
    .addHelpText(
      "after",
      `
The run's folder gets config.json, environment.json, metrics.jsonl, last.safetensors and best.safetensors (and with --ema best-ema.safetensors).
Ctrl-C ends the step, saves and stops; --resume goes on with the same bits.

Examples:
  quadmamba train --data fashion-mnist --model nano --epochs 3 --batch-size 256
  quadmamba train --config examples/mnist.yaml --seed 7
  quadmamba train --data fashion-mnist --device cuda --precision bf16
  quadmamba train --resume runs/mnist-1`,
    )
    .action(async ({ config, out, resume, graph, ...given }: Record<string, unknown>) => {
      const flags = { ...given, ...(graph === false ? { graph } : {}) };
      if (resume !== undefined && (config !== undefined || Object.keys(flags).length > 0))
        throw new ConfigError(
          "train",
          "a resumed run keeps its configuration",
          "--resume alone",
          Object.keys({ ...flags, ...(config ? { config } : {}) }).join(", "),
        );
      const fromFile = config === undefined ? {} : readConfigFile(config as string);
      await runTraining({ ...fromFile, ...flags }, out as string | undefined, resume as string | undefined);
    });
}

async function runTraining(
  options: Record<string, unknown>,
  out: string | undefined,
  resume: string | undefined,
): Promise<void> {
  const stop = new AbortController();
  let received: keyof typeof EXIT_BY_SIGNAL | undefined;
  const onSignal = (signal: keyof typeof EXIT_BY_SIGNAL): void => {
    if (received) process.exit(EXIT_BY_SIGNAL[signal]); // a second one does not wait for the save
    received = signal;
    console.error(`\n${signal}: finishing the step and saving; once more to stop at once`);
    stop.abort();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  try {
    const result = await train(options, {
      out,
      resume,
      signal: stop.signal,
      observer: consoleReport(),
    });
    if (result.interrupted)
      console.log(`stopped at step ${result.steps}; go on with: quadmamba train --resume ${result.folder}`);
    else {
      const average = result.bestEmaAccuracy > 0 ? `, of the average ${percent(result.bestEmaAccuracy)}` : "";
      console.log(`best test accuracy ${percent(result.bestAccuracy)}${average}; saved in ${result.folder}`);
    }
    if (received) process.exitCode = EXIT_BY_SIGNAL[received];
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  }
}
