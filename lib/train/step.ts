import type { BatchData } from "../data/index.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { type AdamW, clipGradNorm, type Ema } from "../optim/index.js";
import { capture, type Graph } from "../tensor/graph.js";
import { memory } from "../tensor/memory.js";
import { scope } from "../tensor/scope.js";
import type { Device, Tensor } from "../tensor/tensor.js";
import { type DeviceBatch, disposeBatch, keepBatch, overwrite, toDevice } from "./device_batch.js";
import { computeGradients, type GradientOptions } from "./gradients.js";

export interface StepOptions extends GradientOptions {
  device: Device;
  /** Largest norm of all gradients together. */
  clip: number;
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
  readonly #options: StepOptions;
  #steps = 0;
  #recording: { graph: Graph; inputs: DeviceBatch; result: ResultTensors } | undefined;
  #recordable: boolean;
  /** On the device, or in the recording's inputs, already. */
  #prepared: { data: BatchData; batch: DeviceBatch | undefined } | undefined;

  constructor(model: QuadMamba, optimizer: AdamW, options: StepOptions, ema?: Ema) {
    this.#model = model;
    this.#optimizer = optimizer;
    this.#ema = ema;
    this.#options = options;
    this.#recordable = options.record && options.device !== "cpu";
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
    if (this.#recording) overwrite(this.#recording.inputs, data);
    const batch = this.#recording ? undefined : keepBatch(toDevice(data, this.#options.device));
    this.#prepared = { data, batch };
  }

  #dropPrepared(): void {
    disposeBatch(this.#prepared?.batch);
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
    const result = scope(() => this.#update(this.#prepared?.batch as DeviceBatch));
    this.#dropPrepared();
    return () => {
      const figures = read(result);
      for (const t of Object.values(result)) t.dispose();
      return figures;
    };
  }

  #update(batch: DeviceBatch): ResultTensors {
    const { loss, correct } = computeGradients(this.#model, batch, this.#options);
    const gradNorm = clipGradNorm(this.#model.parameters(), this.#options.clip);
    this.#optimizer.apply(gradNorm);
    this.#ema?.step({ gate: gradNorm });
    this.#optimizer.zeroGrad();
    return { loss, gradNorm, correct };
  }

  #record(data: BatchData): void {
    const { device, warn } = this.#options;
    const inputs = keepBatch(toDevice(data, device));
    // a recording has buffers of its own: those of the steps before it are not needed any more
    memory.emptyCache(device);
    try {
      const { graph, result } = capture(() => scope(() => this.#update(inputs)));
      for (const t of Object.values(result)) t.keep();
      this.#dropPrepared();
      this.#recording = { graph, inputs, result };
    } catch (error) {
      this.#recordable = false;
      this.#optimizer.zeroGrad();
      disposeBatch(inputs);
      warn(`steps are not recorded as a graph: ${(error as Error).message}`);
    }
  }

  dispose(): void {
    this.#dropPrepared();
    if (!this.#recording) return;
    const { graph, inputs, result } = this.#recording;
    disposeBatch(inputs);
    for (const t of Object.values(result)) t.dispose();
    graph.dispose();
    this.#recording = undefined;
  }
}

function read({ loss, gradNorm, correct }: ResultTensors): StepResult {
  return { loss: loss.item(), gradNorm: gradNorm.item(), correct: correct.item() };
}
