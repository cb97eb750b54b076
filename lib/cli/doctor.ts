import type { Command } from "commander";
import sharp from "sharp";
import { loadDataset } from "../data/index.js";
import { addonInfo, packageVersion } from "../native/addon.js";
import { cudaInfo } from "../native/cuda.js";
import { matmul, tensor } from "../ops/index.js";
import { memory } from "../tensor/memory.js";
import { scope } from "../tensor/scope.js";
import type { Device } from "../tensor/tensor.js";
import { environment } from "../train/environment.js";
import { QuadMambaError } from "../util/errors.js";

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("what was found on this machine, what is used, and why")
    .action(async () => {
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
      say("device cpu", `works: ${selfTest("cpu")}`);
      say("device cuda", cudaStatus());
      say("images", `sharp ${sharp.versions.sharp}, libvips ${sharp.versions.vips}`);
      say("JPEG parts", jpegStatus());
      for (const name of ["mnist", "fashion-mnist"]) say(`data ${name}`, await dataStatus(name));
    });
}

function cudaStatus(): string {
  const info = cudaInfo();
  if (!info.available) return `not there: ${info.reason}`;
  const version = (v: number) => `${Math.floor(v / 1000)}.${Math.floor((v % 1000) / 10)}`;
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  return (
    `works: ${selfTest("cuda")}; ${info.name}, compute capability ${info.capability}, ${info.multiprocessors} multiprocessors, ` +
    `${gib(info.free)} of ${gib(info.memory)} GiB free, driver for CUDA ${version(info.driver)}, built with ${version(info.runtime)} for ${info.builtFor}`
  );
}

/** Without the library, crops are the same bytes, but slower: sharp decodes whole files. */
function jpegStatus(): string {
  if (addonInfo.jpeg) return `decoded alone for crops, by ${addonInfo.jpeg}`;
  return "not there: the addon was built without libjpeg-turbo, and whole files are decoded for crops";
}

/** A product that a broken addon would get wrong. */
function selfTest(device: Device): string {
  const matrix = (rows: number[][]) => tensor(rows, { device });
  const product = scope(() => {
    const left = matrix([
      [1, 2],
      [3, 4],
    ]);
    const right = matrix([
      [5, 6],
      [7, 8],
    ]);
    return matmul(left, right).toArray();
  });
  return `[[1, 2], [3, 4]] x [[5, 6], [7, 8]] = ${JSON.stringify(product)}`;
}

async function dataStatus(name: string): Promise<string> {
  try {
    const { train, test } = await loadDataset(name);
    return `found, ${train.count} + ${test.count} images`;
  } catch (error) {
    if (error instanceof QuadMambaError) return error.message;
    throw error;
  }
}
