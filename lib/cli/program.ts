import { Command } from "commander";
import { packageVersion } from "../native/addon.js";
import { addBench } from "./bench.js";
import { addCheckData } from "./check_data.js";
import { addDoctor } from "./doctor.js";
import { addEval } from "./eval.js";
import { addExport } from "./export.js";
import { addImport } from "./import.js";
import { addInfo } from "./info.js";
import { addPredict } from "./predict.js";
import { addPrepareData } from "./prepare_data.js";
import { addReport } from "./report.js";
import { addTrain } from "./train.js";
import { addVerifyRun } from "./verify_run.js";
import { addVisualize } from "./visualize.js";

/** All commands; parsing throws instead of ending the process. */
export function createProgram(): Command {
  const program = new Command("quadmamba")
    .description("Trains and runs QuadMamba, the vision Mamba whose scan order is a learned quadtree.")
    .version(packageVersion())
    .showSuggestionAfterError();
  const commands = [
    addTrain,
    addVerifyRun,
    addEval,
    addPredict,
    addReport,
    addVisualize,
    addImport,
    addExport,
    addPrepareData,
    addCheckData,
    addInfo,
    addDoctor,
    addBench,
  ];
  for (const add of commands) add(program);
  throwErrors(program);
  return program;
}

function throwErrors(command: Command): void {
  command.exitOverride().showHelpAfterError("(--help shows what there is)");
  command.commands.forEach(throwErrors);
}
