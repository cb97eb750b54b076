import type { Command } from "commander";
import { consoleReport, percent } from "../train/console_report.js";
import { readConfigFile, train } from "../train/index.js";
import { mergeKeys, PRESETS } from "../train/presets.js";
import { ConfigError } from "../util/errors.js";
import { configOptions, setOption } from "./config_options.js";

const EXIT_BY_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const;

export function addTrain(program: Command): void {
  const command = program
    .command("train")
    .description("train from scratch, or go on with a run")
    .option(
      "--config <file>",
      "YAML or JSON file with any keys of the configuration; what the command line says wins over it",
    )
    .option(
      "--preset <name>",
      `a whole recipe: ${Object.keys(PRESETS).join(", ")}; all other keys win over it`,
    )
    .option("--out <folder>", "folder of the run (default: a new one in runs/); a run that is in it goes on")
    .option("--resume <run>", "folder of a run, or a checkpoint in it, to go on from")
    .addOption(setOption());
  for (const option of configOptions()) command.addOption(option);
  command
    .addHelpText(
      "after",
      `
Every key is described in docs/training.md; lists and objects (augment, betas, the model's keys) go into a file or to --set.
Ctrl-C ends the step, saves and stops. The same command with --out, or --resume, goes on with the same bits, also after a crash.
Exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 3 loss or gradient not finite, 130 and 143 stopped by a signal.

Examples:
  quadmamba train --preset fashion-mnist
  quadmamba train --config examples/mnist.yaml --seed 7 --out runs/seven
  quadmamba train --preset cifar10 --data cifar10:DIR --device cuda --precision bf16
  quadmamba train --preset imagenet-tiny --data folder:DIR --device cuda --precision bf16 --accumulate 4
  quadmamba train --preset imagenet-lite --data folder:DIR --set augment.mixup=0 --set model.semantics=released
  quadmamba train --resume runs/mnist-1`,
    )
    .action(async ({ config, out, resume, set = {}, ...flags }: Flags) => {
      for (const [key, value] of Object.entries(flags)) {
        // commander sets --no-NAME to true where it is not given
        if (value === true && command.getOptionValueSource(key) === "default") delete flags[key];
      }
      const given = { ...flags, ...set, ...(config === undefined ? {} : { config }) };
      if (resume !== undefined && Object.keys(given).length > 0)
        throw new ConfigError(
          "train",
          "a resumed run keeps its configuration",
          "--resume alone",
          Object.keys(given).join(", "),
        );
      const file = config === undefined ? {} : readConfigFile(config);
      await runTraining(mergeKeys(mergeKeys(file, flags), set), out, resume);
    });
}

interface Flags extends Record<string, unknown> {
  config?: string;
  out?: string;
  resume?: string;
  set?: Record<string, unknown>;
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
