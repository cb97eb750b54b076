import type { Command } from "commander";
import { verifyRun } from "../train/index.js";

export function addVerifyRun(program: Command): void {
  program
    .command("verify-run")
    .description("repeat the first 20 steps of a run and compare them to the last bit")
    .argument("<run>", "folder of a run")
    .addHelpText("after", "\nExample:\n  quadmamba verify-run runs/mnist-1")
    .action(async (path: string) => {
      const { steps, differences, environment } = await verifyRun(path);
      for (const line of environment) console.log(`environment: ${line}`);
      for (const line of differences) console.error(`error: ${line}`);
      if (differences.length > 0) process.exitCode = 1;
      else console.log(`${steps} steps repeated: the same losses, gradients and weights, to the last bit`);
    });
}
