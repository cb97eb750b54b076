#!/usr/bin/env node
/** The command line: parses, calls the library, and turns errors into one line and an exit code. */
import { CommanderError } from "commander";
import { ConfigError, QuadMambaError, TrainingError } from "../util/errors.js";

/** Exit codes besides 0: 1 for a failure, 2 for a wrong command line or configuration, 3 for a training run that cannot go on. */
const FAILED = 1;
const MISUSED = 2;
const SICK = 3;

async function main(): Promise<void> {
  try {
    // Imported here, so that an addon that does not load is an error as any other.
    const { createProgram } = await import("./program.js");
    await createProgram().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : MISUSED;
    else if (error instanceof QuadMambaError) {
      console.error(process.env.DEBUG ? error : `error: ${error.message}`);
      process.exitCode = exitCodeOf(error);
    } else throw error;
  }
}

function exitCodeOf(error: QuadMambaError): number {
  if (error instanceof ConfigError) return MISUSED;
  return error instanceof TrainingError ? SICK : FAILED;
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = FAILED;
});
