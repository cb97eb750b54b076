import {
  AdamW,
  capture,
  clipGradNorm,
  createQuadMamba,
  crossEntropy,
  type Device,
  type Graph,
  manualSeed,
  type QuadMamba,
  randn,
  scope,
  type Tensor,
  zeros,
} from "../../lib/index.js";
import { writeTypedArray } from "../../lib/tensor/tensor.js";
import { hashTensors } from "./hash.js";

const BATCH = 8;
const BATCHES = 8;
const CLASSES = 4;
const SIZE = 16;
const CORNER = 4;

export interface TinyOptions {
  device: Device;
  /** The dtype that the images are cast to: that of the model's arithmetic. Default float32. */
  dtype?: "float32" | "bfloat16";
}

interface BatchData {
  pixels: Float32Array;
  labels: BigInt64Array;
}

/**
 * A tiny QuadMamba learning which corner of a noisy image is bright. All numbers come from one seed and from the CPU, so that every
 * device starts from the same.
 */
export class TinyTraining {
  readonly #model: QuadMamba;
  readonly #optimizer: AdamW;
  readonly #dtype: "float32" | "bfloat16";
  readonly #batches: BatchData[];
  readonly #images: Tensor;
  readonly #labels: Tensor;
  #steps = 0;
  #recording: { graph: Graph; result: Tensor } | undefined;

  constructor({ device, dtype = "float32" }: TinyOptions) {
    manualSeed(23);
    const config = { dims: 8, inChannels: 1, numClasses: CLASSES };
    this.#model = createQuadMamba({ ...config, depths: [1, 1, 1, 1] }).to(device);
    this.#optimizer = new AdamW(this.#model.parameters(), { lr: 1e-3, weightDecay: 0.05 });
    this.#dtype = dtype;
    this.#batches = Array.from({ length: BATCHES }, (_, k) => scope(() => makeBatch(k)));
    this.#images = zeros([BATCH, SIZE, SIZE, 1], { device }).keep();
    this.#labels = zeros([BATCH], { dtype: "int64", device }).keep();
  }

  /** One step on the next batch. @returns the loss before it */
  step(): number {
    const { pixels, labels } = this.#batches[this.#steps++ % BATCHES];
    writeTypedArray("step", this.#images, pixels);
    writeTypedArray("step", this.#labels, labels);
    this.#optimizer.advance();
    if (!this.#recording) return scope(() => this.#update().item());
    this.#recording.graph.replay();
    return this.#recording.result.item();
  }

  /** Later steps replay a graph. At least one step must have been taken. */
  record(): void {
    const { graph, result } = capture(() => scope(() => this.#update()));
    this.#recording = { graph, result: result.keep() };
  }

  #update(): Tensor {
    const loss = crossEntropy(this.#model.forward(this.#images.to(this.#dtype)), this.#labels);
    loss.backward();
    this.#optimizer.apply(clipGradNorm(this.#model.parameters(), 1));
    this.#optimizer.zeroGrad();
    return loss.detach();
  }

  /** SHA-256 of the parameters. */
  hash(): string {
    return hashTensors(this.#model.stateDict());
  }

  dispose(): void {
    this.#recording?.result.dispose();
    this.#recording?.graph.dispose();
    for (const owner of [this.#model, this.#optimizer, this.#images, this.#labels]) owner.dispose();
  }
}

/** Noise, with a square in one of the four corners brighter. */
function makeBatch(batch: number): BatchData {
  const pixels = randn([BATCH * SIZE * SIZE]).toTypedArray() as Float32Array;
  const labels = Array.from({ length: BATCH }, (_, k) => (3 * k + batch) % CLASSES);
  labels.forEach((label, k) => {
    const [top, left] = [label >> 1, label & 1].map((side) => side * (SIZE - CORNER));
    for (let row = top; row < top + CORNER; row++)
      for (let column = left; column < left + CORNER; column++) pixels[(k * SIZE + row) * SIZE + column] += 1;
  });
  return { pixels, labels: BigInt64Array.from(labels, BigInt) };
}
