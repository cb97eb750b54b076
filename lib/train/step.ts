import { type Batch, type BatchData, toDevice } from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { argmax, cast, crossEntropy, eq, sum } from "../ops/index.js";
import { type AdamW, clipGradNorm, type Ema } from "../optim/index.js";
import { capture, type Graph } from "../tensor/graph.js";
import { memory } from "../tensor/memory.js";
import { scope } from "../tensor/scope.js";
import { type Tensor, writeTypedArray } from "../tensor/tensor.js";
import { inPrecision, type Placement } from "./placement.js";

export interface StepOptions {
  /** Largest norm of all gradients together. */
  clip: number;
  labelSmoothing: number;
  /** Record the step as a graph where the device can. */
  record: boolean;
  /** Told once if it cannot be recorded. */
  warn: (message: string) => void;
}

export interface StepResult {
  loss: number;
  gradNorm: number;
  /** Samples whose most probable class is their label. */
  correct: number;
}
type ResultTensors = Record<keyof StepResult, Tensor>;

/** Steps that run as they are before one is recorded: they bring constants and buffers to where they stay. */
const WARM_UP = 2;

/**
 * Forward, backward, clipping, update and moving average on one batch. On a GPU the step runs by itself once it is started, and from the third
 * one on as a recorded graph; an update whose loss or gradient is not finite changes nothing.
 */
export class TrainStep {
  readonly #model: QuadMamba;
  readonly #optimizer: AdamW;
  readonly #ema: Ema | undefined;
  readonly #placement: Placement;
  readonly #options: StepOptions;
  #steps = 0;
  #recording: { graph: Graph; inputs: Batch; result: ResultTensors } | undefined;
  #recordable: boolean;
  /** On the device, or in the recording's inputs, already. */
  #prepared: { data: BatchData; batch: Batch | undefined } | undefined;

  constructor(model: QuadMamba, optimizer: AdamW, placement: Placement, options: StepOptions, ema?: Ema) {
    this.#model = model;
    this.#optimizer = optimizer;
    this.#ema = ema;
    this.#placement = placement;
    this.#options = options;
    this.#recordable = options.record && placement.device !== "cpu";
  }

  /** Whether steps run as a recorded graph. */
  get recorded(): boolean {
    return this.#recording !== undefined;
  }

  /**
   * Copies the next step's batch to the device while the one before is running: between `start` and the call of what it returned.
   * The copy waits for its turn behind that step, so that it may use the same place.
   */
  prepare(data: BatchData): void {
    this.#dropPrepared();
    if (!this.#recording) {
      const batch = toDevice(data, this.#placement.device);
      for (const t of Object.values<Tensor>({ ...batch })) t.keep();
      this.#prepared = { data, batch };
      return;
    }
    const { images, labels } = this.#recording.inputs;
    writeTypedArray("train", images, data.pixels);
    writeTypedArray("train", labels, data.labels);
    this.#prepared = { data, batch: undefined };
  }

  #dropPrepared(): void {
    for (const t of Object.values<Tensor>({ ...this.#prepared?.batch })) t.dispose();
    this.#prepared = undefined;
  }

  /** Starts a step on a batch. The function returned waits for it and gives its figures; call it before the next step. */
  start(data: BatchData): () => StepResult {
    this.#optimizer.advance();
    if (this.#recordable && !this.#recording && this.#steps >= WARM_UP) this.#record(data);
    this.#steps++;
    if (this.#prepared?.data !== data) this.prepare(data);
    if (this.#recording) {
      const { graph, result } = this.#recording;
      graph.replay();
      return () => read(result);
    }
    const result = scope(() => this.#update(this.#prepared?.batch as Batch));
    this.#dropPrepared();
    return () => {
      const figures = read(result);
      for (const t of Object.values(result)) t.dispose();
      return figures;
    };
  }

  #update({ images, labels }: Batch): ResultTensors {
    const { clip, labelSmoothing } = this.#options;
    const logits = this.#model.forward(inPrecision(images, this.#placement.precision));
    const loss = crossEntropy(logits, labels, { smoothing: labelSmoothing });
    loss.backward();
    const gradNorm = clipGradNorm(this.#model.parameters(), clip);
    this.#optimizer.apply(gradNorm);
    this.#ema?.step({ gate: gradNorm });
    this.#optimizer.zeroGrad();
    const correct = sum(eq(argmax(logits, 1), cast(labels, "int64")));
    return { loss: loss.detach(), gradNorm, correct };
  }

  #record(batch: BatchData): void {
    const inputs = toDevice(batch, this.#placement.device);
    for (const t of Object.values<Tensor>({ ...inputs })) t.keep();
    // a recording has buffers of its own: those of the steps before it are not needed any more
    memory.emptyCache(this.#placement.device);
    try {
      const { graph, result } = capture(() => scope(() => this.#update(inputs)));
      for (const t of Object.values(result)) t.keep();
      this.#dropPrepared();
      this.#recording = { graph, inputs, result };
    } catch (error) {
      this.#recordable = false;
      this.#optimizer.zeroGrad();
      for (const t of Object.values<Tensor>({ ...inputs })) t.dispose();
      this.#options.warn(`steps are not recorded as a graph: ${(error as Error).message}`);
    }
  }

  dispose(): void {
    this.#dropPrepared();
    if (!this.#recording) return;
    const { graph, inputs, result } = this.#recording;
    for (const t of [...Object.values<Tensor>({ ...inputs }), ...Object.values(result)]) t.dispose();
    graph.dispose();
    this.#recording = undefined;
  }
}

function read({ loss, gradNorm, correct }: ResultTensors): StepResult {
  return { loss: loss.item(), gradNorm: gradNorm.item(), correct: correct.item() };
}
