import { Command } from "commander";
import { packageVersion } from "../native/addon.js";
import { addDoctor } from "./doctor.js";
import { addEval } from "./eval.js";
import { addInfo } from "./info.js";
import { addPredict } from "./predict.js";
import { addTrain } from "./train.js";

/** All commands; parsing throws instead of ending the process. */
export function createProgram(): Command {
  const program = new Command("quadmamba")
    .description("Trains and runs QuadMamba, the vision Mamba whose scan order is a learned quadtree.")
    .version(packageVersion())
    .showSuggestionAfterError()
    .showHelpAfterError("(--help shows what there is)")
    .exitOverride();
  for (const add of [addTrain, addEval, addPredict, addInfo, addDoctor]) add(program);
  for (const command of program.commands)
    command.exitOverride().showHelpAfterError("(--help shows what there is)");
  return program;
}
