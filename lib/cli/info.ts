import type { Command } from "commander";
import { VARIANTS, type Variant } from "../models/quadmamba/config.js";
import { createQuadMamba } from "../models/quadmamba/model.js";
import { formatMacs, modelCosts, modelTable } from "../train/model_summary.js";
import { wholeNumber } from "./options.js";

export function addInfo(program: Command): void {
  program
    .command("info")
    .description("parameters and multiply-accumulates of the variants, or of one in detail")
    .argument("[model]", Object.keys(VARIANTS).join(", "))
    .option("--size <pixels>", "side of the image", wholeNumber(8), 224)
    .option("--classes <n>", "number of classes; 0 for a backbone", wholeNumber(0), 1000)
    .option("--channels <n>", "channels of the image", wholeNumber(1), 3)
    .addHelpText(
      "after",
      "\nMACs count convolutions and linear maps, 5 per layer-norm element, and 9 L D N + L D per selective scan.\n\nExample:\n  quadmamba info small --size 224",
    )
    .action(
      (
        name: string | undefined,
        { size, classes, channels }: { size: number; classes: number; channels: number },
      ) => {
        const make = (variant: string) =>
          createQuadMamba({
            variant: variant as Variant,
            numClasses: classes,
            inChannels: channels,
          });
        if (name !== undefined) {
          const model = make(name);
          for (const line of modelTable(model, size, 3)) console.log(line);
          return model.dispose();
        }
        console.log(`variant  parameters    MACs at ${size} x ${size}`);
        for (const variant of Object.keys(VARIANTS)) {
          const model = make(variant);
          const costs = modelCosts(model, size, 1);
          const parameters = costs.reduce((sum, cost) => sum + cost.parameters, 0);
          const macs = costs.reduce((sum, cost) => sum + cost.macs, 0);
          console.log(
            `${variant.padEnd(7)}  ${parameters.toLocaleString("en-US").padStart(10)}    ${formatMacs(macs)}`,
          );
          model.dispose();
        }
      },
    );
}
