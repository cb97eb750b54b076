import { Command } from "commander";
import { packageVersion } from "../native/addon.js";
import { addBench } from "./bench.js";
import { addDoctor } from "./doctor.js";
import { addEval } from "./eval.js";
import { addExport } from "./export.js";
import { addImport } from "./import.js";
import { addInfo } from "./info.js";
import { addPredict } from "./predict.js";
import { addTrain } from "./train.js";
import { addVerifyRun } from "./verify_run.js";

/** All commands; parsing throws instead of ending the process. */
export function createProgram(): Command {
  const program = new Command("quadmamba")
    .description("Trains and runs QuadMamba, the vision Mamba whose scan order is a learned quadtree.")
    .version(packageVersion())
    .showSuggestionAfterError();
<<<<<<< HEAD
  for (const add of [addTrain, addVerifyRun, addEval, addPredict, addInfo, addDoctor, addBench]) add(program);
=======
  for (const add of [addTrain, addEval, addPredict, addImport, addExport, addInfo, addDoctor, addBench])
    add(program);
>>>>>>> 0dabfe1 (PyTorch checkpoints are read without executing them; import and export commands; ONNX files are verified in onnxruntime-web)
  throwErrors(program);
  return program;
}

function throwErrors(command: Command): void {
  command.exitOverride().showHelpAfterError("(--help shows what there is)");
  command.commands.forEach(throwErrors);
}
