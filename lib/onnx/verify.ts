import { noGrad } from "../autograd/mode.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { div, permute, rand, sub, tensor, zeros } from "../ops/index.js";
import { Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { OnnxOptions } from "./model.js";

/** Of logits, between the exported graph in onnxruntime and the model itself. */
export const TOLERANCE = 1e-4;
const BATCHES = [1, 3];
const SEED = 20;

/** What is used of onnxruntime-web, which need not be installed. */
interface Runtime {
  env: { wasm: { numThreads: number }; logLevel: string };
  Tensor: new (type: "float32", data: Float32Array, shape: readonly number[]) => unknown;
  InferenceSession: {
    create(model: Uint8Array): Promise<{
      run(inputs: Record<string, unknown>): Promise<{ logits: { data: Float32Array } }>;
      release(): Promise<void>;
    }>;
  };
}

/**
 * Runs the file in onnxruntime-web beside the model, on random images in batches of 1 and 3.
 * @returns the largest difference of a logit, or undefined where onnxruntime-web is not installed
 */
export async function verifyOnnx(
  model: QuadMamba,
  file: readonly Uint8Array[],
  { height, width, normalise }: OnnxOptions,
): Promise<number | undefined> {
  const runtime = await loadRuntime();
  if (!runtime) return undefined;
  const session = await runtime.InferenceSession.create(Buffer.concat(file));
  const generator = new Generator(SEED);
  const channels = model.config.inChannels;
  let worst = 0;
  for (const batch of BATCHES) {
    const { images, expected } = scope(() => {
      const pixels = rand([batch, height, width, channels], { generator });
      const x = normalise
        ? div(sub(pixels, tensor([...normalise.mean])), tensor([...normalise.std]))
        : pixels;
      const noise = model.quadBlocks.map(() => zeros([batch, 4]));
      return {
        images: permute(pixels, [0, 3, 1, 2]).toTypedArray() as Float32Array,
        expected: noGrad(() => model.forward(x, { partitionNoise: noise })).toTypedArray() as Float32Array,
      };
    });
    const input = new runtime.Tensor("float32", images, [batch, channels, height, width]);
    const { data } = (await session.run({ images: input })).logits;
    for (let k = 0; k < expected.length; k++) {
      const difference = Math.abs(data[k] - expected[k]);
      worst = Math.max(worst, Number.isNaN(difference) ? Infinity : difference);
    }
  }
  await session.release();
  return worst;
}

async function loadRuntime(): Promise<Runtime | undefined> {
  const name = "onnxruntime-web"; // not a literal below, so that its types are not needed either
  try {
    const runtime = ((await import(name)) as { default: Runtime }).default;
    runtime.env.wasm.numThreads = 1;
    runtime.env.logLevel = "error";
    return runtime;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}
