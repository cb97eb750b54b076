#!/usr/bin/env node
/** The command line: parses, calls the library, and turns errors into one line and an exit code. */
import { Command, CommanderError } from "commander";
import { packageVersion } from "../native/addon.js";
import { ConfigError, QuadMambaError } from "../util/errors.js";
import { addDoctor } from "./doctor.js";
import { addEval } from "./eval.js";
import { addInfo } from "./info.js";
import { addPredict } from "./predict.js";
import { addTrain } from "./train.js";

/** Exit codes besides 0: 1 for a failure, 2 for a wrong command line or configuration. */
const FAILED = 1;
const MISUSED = 2;

async function main(): Promise<void> {
  const program = new Command("quadmamba")
    .description("Trains and runs QuadMamba, the vision Mamba whose scan order is a learned quadtree.")
    .version(packageVersion())
    .showSuggestionAfterError()
    .showHelpAfterError("(--help shows what there is)")
    .exitOverride();
  for (const add of [addTrain, addEval, addPredict, addInfo, addDoctor]) add(program);
  for (const command of program.commands)
    command.exitOverride().showHelpAfterError("(--help shows what there is)");
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : MISUSED;
    else if (error instanceof QuadMambaError) {
      console.error(process.env.DEBUG ? error : `error: ${error.message}`);
      process.exitCode = error instanceof ConfigError ? MISUSED : FAILED;
    } else throw error;
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = FAILED;
});
