import type { Command } from "commander";
import sharp from "sharp";
import { loadDataset } from "../data/index.js";
import { addonInfo, packageVersion } from "../native/addon.js";
import { matmul, tensor } from "../ops/index.js";
import { memory } from "../tensor/memory.js";
import { scope } from "../tensor/scope.js";
import { environment } from "../train/run_folder.js";
import { QuadMambaError } from "../util/errors.js";

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("what was found on this machine, what is used, and why")
    .action(() => {
      const { platform, cpu, cores, threads } = environment();
      const say = (what: string, text: string) => console.log(`${what.padEnd(18)} ${text}`);
      say("quadmamba", `${packageVersion()}, Node ${process.versions.node}, ${platform}`);
      say(
        "addon",
        `loaded, interface ${addonInfo.abi}, ${addonInfo.ops.length} kernels, built by ${addonInfo.compiler}${addonInfo.sanitized ? ", with sanitizers" : ""}`,
      );
      say("processor", `${cpu}, ${cores} cores, ${threads} threads in use`);
      const why = process.env.QUADMAMBA_ISA
        ? `QUADMAMBA_ISA=${process.env.QUADMAMBA_ISA} asks for it`
        : "the best that the processor has";
      say("instructions", `${addonInfo.isa} (${why}); available: ${addonInfo.supported.join(", ")}`);
      say(
        "memory",
        `tensors may take ${(memory.budget / 2 ** 30).toFixed(1)} GiB (80 % of the machine's or the container's)`,
      );
      say("device cpu", `works: ${selfTest()}`);
      say("device cuda", "not there: this version has no CUDA backend");
      say("images", `sharp ${sharp.versions.sharp}, libvips ${sharp.versions.vips}`);
      for (const name of ["mnist", "fashion-mnist"]) say(`data ${name}`, dataStatus(name));
    });
}

/** A product that a broken addon would get wrong. */
function selfTest(): string {
  const product = scope(() =>
    matmul(
      tensor([
        [1, 2],
        [3, 4],
      ]),
      tensor([
        [5, 6],
        [7, 8],
      ]),
    ).toArray(),
  );
  return `[[1, 2], [3, 4]] x [[5, 6], [7, 8]] = ${JSON.stringify(product)}`;
}

function dataStatus(name: string): string {
  try {
    const { train, test } = loadDataset(name);
    return `found, ${train.count} + ${test.count} images`;
  } catch (error) {
    if (error instanceof QuadMambaError) return error.message;
    throw error;
  }
}
