import {
  type BatchData,
  batchData,
  type DataSource,
  epochOrder,
  imageSize,
  type Preparation,
} from "../data/index.js";
import { cosineLr, Ema } from "../optim/index.js";
import { setThreads } from "../tensor/memory.js";
import { defaultGenerator } from "../tensor/random.js";
import { FileError, TrainingError } from "../util/errors.js";
import { type RunState, saveCheckpoint, type Trained } from "./checkpoint.js";
import type { TrainConfig } from "./config.js";
import { evaluate } from "./evaluate.js";
import type { StepReport, TrainObserver } from "./observer.js";
import type { MetricsLine, RunFolder } from "./run_folder.js";
import { TrainStep } from "./step.js";

const MAX_FAILED_SAVES = 3;

export interface TrainResult {
  folder: string;
  interrupted: boolean;
  steps: number;
  /** Of the last epoch that was evaluated in this call. */
  testAccuracy: number | undefined;
  bestAccuracy: number;
  /** Of the moving average of the weights; 0 without one. */
  bestEmaAccuracy: number;
}

/** One run from where its state says to its end. */
export class Run {
  readonly #stepsPerEpoch: number;
  readonly #steps: number;
  #failedSaves = 0;
  #logFailed = false;
  /** Step of the newest last.safetensors that this run wrote. */
  #savedStep = -1;
  #order: { epoch: number; samples: Uint32Array } | undefined;
  #trainStep: TrainStep | undefined;
  /** Made while the device was busy with the step before. */
  #nextBatch: { step: number; batch: BatchData } | undefined;
  /** Time and step of the last report of speed. */
  #speed = { time: 0, step: 0, imagesPerSecond: 0 };

  constructor(
    private readonly config: TrainConfig,
    private readonly data: DataSource,
    private readonly prepare: Preparation,
    private readonly trained: Trained,
    private readonly state: RunState,
    private readonly folder: RunFolder,
  ) {
    // The last, smaller batch of an epoch is left out; another permutation leaves out other samples.
    this.#stepsPerEpoch = Math.floor(data.train.count / config.batchSize);
    this.#steps = this.#stepsPerEpoch * config.epochs;
  }

  async finish(signal: AbortSignal | undefined, observer: TrainObserver): Promise<TrainResult> {
    const { config, state, folder } = this;
    const { model, average, optimizer } = this.trained;
    if (config.threads) setThreads(config.threads);
    const options = {
      clip: config.clip,
      labelSmoothing: config.labelSmoothing,
      record: config.graph,
      warn: (message: string) => observer.warning?.(message),
    };
    const ema = average && new Ema(model, average, { decay: config.ema });
    this.#trainStep = new TrainStep(model, optimizer, config, options, ema);
    observer.begin?.({
      config,
      data: this.data,
      model,
      folder: folder.path,
      steps: this.#steps,
      resumedAt: state.step,
    });
    this.#speed = {
      time: performance.now(),
      step: state.step,
      imagesPerSecond: 0,
    };
    let testAccuracy: number | undefined;
    while (state.step < this.#steps && !signal?.aborted) {
      this.#step(observer);
      if (state.step % this.#stepsPerEpoch === 0) testAccuracy = await this.#endEpoch(observer);
      else if (config.saveEvery > 0 && state.step % config.saveEvery === 0) this.#save(folder.last, observer);
      // One turn of the event loop a step: signals, timers and finalizers get theirs.
      await new Promise(setImmediate);
    }
    const interrupted = state.step < this.#steps;
    // Where the run ends a save must succeed: there is no later one to make up for it.
    if (this.#savedStep !== state.step) this.#write(folder.last, observer);
    return {
      folder: folder.path,
      interrupted,
      steps: state.step,
      testAccuracy,
      bestAccuracy: state.bestAccuracy,
      bestEmaAccuracy: state.bestEmaAccuracy,
    };
  }

  dispose(): void {
    this.#trainStep?.dispose();
    for (const part of Object.values(this.trained)) part?.dispose();
  }

  #step(observer: TrainObserver): void {
    const { config, state } = this;
    const epoch = Math.floor(state.step / this.#stepsPerEpoch);
    const position = state.step % this.#stepsPerEpoch;
    if (position === 0) Object.assign(state, { epochLoss: 0, epochCorrect: 0 });
    const lr = this.#learningRate();
    this.trained.optimizer.lr = lr;
    const ready = this.#nextBatch?.step === state.step ? this.#nextBatch.batch : this.#batch(epoch, position);
    const finish = (this.#trainStep as TrainStep).start(ready);
    this.#nextBatch = undefined;
    if (position + 1 < this.#stepsPerEpoch) {
      const batch = this.#batch(epoch, position + 1);
      this.#nextBatch = { step: state.step + 1, batch };
      this.#trainStep?.prepare(batch);
    }
    const { loss, gradNorm, correct } = finish();
    this.#requireFinite(loss, gradNorm);
    state.step++;
    state.draws = defaultGenerator.counter;
    state.epochLoss += loss;
    state.epochCorrect += correct;

    const report: StepReport = {
      step: state.step,
      steps: this.#steps,
      epoch,
      position: position + 1,
      stepsPerEpoch: this.#stepsPerEpoch,
      batchSize: config.batchSize,
      loss: state.epochLoss / (position + 1),
      accuracy: state.epochCorrect / ((position + 1) * config.batchSize),
      lr,
      gradNorm,
      imagesPerSecond: this.#measureSpeed(),
    };
    observer.step?.(report);
    if (state.step % config.logEvery === 0)
      this.#log(observer, {
        step: state.step,
        epoch,
        trainLoss: report.loss,
        trainAccuracy: report.accuracy,
        lr,
        gradNorm,
        imagesPerSecond: Math.round(report.imagesPerSecond),
      });
  }

  #requireFinite(loss: number, gradNorm: number): void {
    if (!Number.isFinite(loss) || !Number.isFinite(gradNorm))
      throw new TrainingError(
        "train",
        `loss or gradient is no finite number at step ${this.state.step + 1}; nothing was updated, and ${this.folder.last} is from before`,
        "finite numbers",
        `loss ${loss}, gradient norm ${gradNorm}`,
      );
  }

  #batch(epoch: number, position: number): BatchData {
    const { config, data } = this;
    if (this.#order?.epoch !== epoch)
      this.#order = {
        epoch,
        samples: epochOrder(data.train.count, config.seed, epoch),
      };
    const samples = this.#order.samples.subarray(
      position * config.batchSize,
      (position + 1) * config.batchSize,
    );
    return batchData(data.train, samples, this.prepare, {
      seed: config.seed,
      epoch,
      flip: config.flip,
      shift: config.shift,
    });
  }

  #learningRate(): number {
    const { lr, minLr, warmup } = this.config;
    return cosineLr(this.state.step, {
      lr,
      minLr,
      warmupSteps: Math.round(warmup * this.#steps),
      totalSteps: this.#steps,
    });
  }

  /** Images per second over the last half second and more. */
  #measureSpeed(): number {
    const now = performance.now();
    const seconds = (now - this.#speed.time) / 1000;
    if (seconds > 0.5 || this.#speed.imagesPerSecond === 0) {
      const images = (this.state.step - this.#speed.step) * this.config.batchSize;
      this.#speed = {
        time: now,
        step: this.state.step,
        imagesPerSecond: images / seconds,
      };
    }
    return this.#speed.imagesPerSecond;
  }

  async #endEpoch(observer: TrainObserver): Promise<number> {
    const { config, state, folder } = this;
    const epoch = state.step / this.#stepsPerEpoch - 1;
    const { model, average, optimizer } = this.trained;
    const test = await evaluate(model, this.data.test, this.prepare, config);
    const ema = average && (await evaluate(average, this.data.test, this.prepare, config));
    const best = test.top1 > state.bestAccuracy;
    const bestEma = ema !== undefined && ema.top1 > state.bestEmaAccuracy;
    if (best) state.bestAccuracy = test.top1;
    if (bestEma) state.bestEmaAccuracy = ema.top1;
    const trainLoss = state.epochLoss / this.#stepsPerEpoch;
    const trainAccuracy = state.epochCorrect / (this.#stepsPerEpoch * config.batchSize);
    this.#log(observer, {
      step: state.step,
      epoch,
      trainLoss,
      trainAccuracy,
      lr: optimizer.groups[0].options.lr,
      testLoss: test.loss,
      testAccuracy: test.top1,
      ...(ema && { emaTestLoss: ema.loss, emaTestAccuracy: ema.top1 }),
    });
    observer.epoch?.({ epoch, trainLoss, trainAccuracy, test, ema, best, bestEma });
    this.#save(folder.last, observer);
    if (best) this.#save(folder.best, observer);
    if (bestEma) this.#save(folder.bestEma, observer);
    this.#speed = {
      time: performance.now(),
      step: state.step,
      imagesPerSecond: 0,
    };
    return test.top1;
  }

  /** A save that fails costs nothing but itself, unless it keeps failing. */
  #save(path: string, observer: TrainObserver): void {
    try {
      this.#write(path, observer);
      this.#failedSaves = 0;
    } catch (error) {
      if (!(error instanceof FileError) || ++this.#failedSaves >= MAX_FAILED_SAVES) throw error;
      observer.warning?.(`${error.message} (the run goes on; ${MAX_FAILED_SAVES} failures in a row end it)`);
    }
  }

  #write(path: string, observer: TrainObserver): void {
    const { config, prepare, state, data, folder } = this;
    const facts = { config, prepare, image: imageSize(data.train, prepare), classes: data.classes, state };
    saveCheckpoint(path, this.trained, facts);
    if (path === folder.last) this.#savedStep = state.step;
    observer.saved?.(path);
  }

  /** A line that cannot be written is lost; the run is worth more. Said once. */
  #log(observer: TrainObserver, line: MetricsLine): void {
    try {
      this.folder.log(line);
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      if (!this.#logFailed) observer.warning?.(`${error.message} (the run goes on without these metrics)`);
      this.#logFailed = true;
    }
  }
}
