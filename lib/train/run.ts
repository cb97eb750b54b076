import { type BatchData, type DataSource, epochOrder, Loader } from "../data/index.js";
import { Ema } from "../optim/index.js";
import { defaultGenerator } from "../tensor/random.js";
import { FileError, TrainingError } from "../util/errors.js";
import type { CheckpointFacts, RunState, Trained } from "./checkpoint.js";
import type { TrainConfig } from "./config.js";
import { evaluate, TestImages } from "./evaluate.js";
import { FirstSteps } from "./first_steps.js";
import { MetricsLog, type MetricsLine } from "./metrics_log.js";
import type { StepReport, TrainObserver } from "./observer.js";
import { readAhead } from "./read_ahead.js";
import type { RunFolder } from "./run_folder.js";
import { Saver } from "./saver.js";
import { learningRate } from "./schedule.js";
import { findFault } from "./sick_step.js";
import { Speed } from "./speed.js";
import { type StepResult, TrainStep } from "./step.js";
import { workersOf } from "./workers.js";

export interface TrainResult {
  folder: string;
  /** Stopped by the signal, before its end. */
  interrupted: boolean;
  steps: number;
  /** Of the last epoch that was evaluated in this call. */
  testAccuracy: number | undefined;
  bestAccuracy: number;
  /** Of the moving average of the weights; 0 without one. */
  bestEmaAccuracy: number;
}

/** Where a run stands, and on what it works. */
export interface RunParts {
  data: DataSource;
  trained: Trained;
  facts: CheckpointFacts;
  folder: RunFolder;
}

/** One run from where its state says to its end. */
export class Run {
  readonly #data: DataSource;
  readonly #trained: Trained;
  readonly #folder: RunFolder;
  readonly #config: TrainConfig;
  readonly #state: RunState;
  readonly #observer: TrainObserver;
  readonly #stepsPerEpoch: number;
  readonly #steps: number;
  readonly #learningRate: (step: number) => number;
  readonly #speed = new Speed();
  readonly #metrics: MetricsLog;
  readonly #firstSteps: FirstSteps;
  readonly #saver: Saver;
  readonly #trainStep: TrainStep;
  readonly #loader: Loader;
  readonly #testImages: TestImages;
  /** Batches to prepare ahead. */
  readonly #ahead: number;
  #logFailed = false;
  #order: { epoch: number; samples: Uint32Array } | undefined;

  constructor({ data, trained, facts, folder }: RunParts, observer: TrainObserver) {
    const { config, state, prepare } = facts;
    this.#data = data;
    this.#trained = trained;
    this.#folder = folder;
    this.#config = config;
    this.#state = state;
    this.#observer = observer;
    // The last, smaller batch of an epoch is left out; another permutation leaves out other samples.
    this.#stepsPerEpoch = Math.floor(data.train.count / config.batchSize);
    this.#steps = this.#stepsPerEpoch * config.epochs;
    this.#learningRate = learningRate(config, this.#stepsPerEpoch);
    this.#metrics = new MetricsLog(folder.path, state.step);
    this.#firstSteps = new FirstSteps(folder.path, { step: state.step, steps: this.#steps });
    this.#saver = new Saver(trained, facts, folder, observer);
    const warn = (message: string) => observer.warning?.(message);
    const { model, average, optimizer } = trained;
    model.checkpointing = config.checkpointing;
    const ema = average && new Ema(model, average, { decay: config.ema });
    this.#trainStep = new TrainStep(model, optimizer, { ...config, record: config.graph, warn }, ema);
    const workers = workersOf(config, data);
    this.#ahead = workers > 0 ? config.prefetch : 0;
    const loading = { classes: data.classes.length, workers, prefetch: config.prefetch };
    this.#loader = new Loader(data.train, prepare, { ...loading, damaged: config.damaged });
    this.#testImages = new TestImages(data.test, prepare, loading);
  }

  async finish(signal: AbortSignal | undefined): Promise<TrainResult> {
    const state = this.#state;
    this.#observer.begin?.({
      config: this.#config,
      data: this.#data,
      model: this.#trained.model,
      folder: this.#folder.path,
      steps: this.#steps,
      resumedAt: state.step,
    });
    let testAccuracy: number | undefined;
    const span = { begin: state.step, end: this.#steps, ahead: this.#ahead };
    const batches = readAhead(span, (step) => this.#batch(step));
    let batch = await this.#next(batches);
    while (batch && !this.#stopsEarly && !signal?.aborted) {
      batch = await this.#step(batch, batches);
      if (state.step % this.#stepsPerEpoch === 0) testAccuracy = await this.#endEpoch();
      else if (this.#config.saveEvery > 0 && state.step % this.#config.saveEvery === 0)
        this.#saver.saveLast();
      // One turn of the event loop a step: signals, timers and finalizers get theirs.
      await new Promise(setImmediate);
    }
    this.#saver.ensureLast();
    return {
      folder: this.#folder.path,
      interrupted: state.step < this.#steps && !this.#stopsEarly,
      steps: state.step,
      testAccuracy,
      bestAccuracy: state.bestAccuracy,
      bestEmaAccuracy: state.bestEmaAccuracy,
    };
  }

  async dispose(): Promise<void> {
    this.#trainStep.dispose();
    await Promise.all([this.#loader.dispose(), this.#testImages.dispose()]);
  }

  get #stopsEarly(): boolean {
    const { patience } = this.#config;
    return patience > 0 && this.#state.epochsSinceBest >= patience;
  }

  /** One step on `batch`. While the device is at it the next batch is waited for, and copied there. @returns the next batch */
  async #step(batch: BatchData, batches: AsyncIterator<BatchData>): Promise<BatchData | undefined> {
    const state = this.#state;
    const position = state.step % this.#stepsPerEpoch;
    if (position === 0) Object.assign(state, { epochLoss: 0, epochCorrect: 0 });
    this.#trained.optimizer.lr = this.#learningRate(state.step);
    const finish = this.#trainStep.start(batch);
    const next = await this.#next(batches);
    if (next) this.#trainStep.prepare(next);
    const result = finish();
    this.#requireFinite(result, batch);
    this.#loader.release(batch);
    state.step++;
    state.draws = defaultGenerator.counter;
    state.epochLoss += result.loss;
    state.epochCorrect += result.correct;
    this.#speed.count(this.#config.batchSize);
    this.#record(() => this.#firstSteps.append(state.step, result, this.#trained.model));
    this.#report(position + 1, result.gradNorm);
    return next;
  }

  #report(position: number, gradNorm: number): void {
    const { batchSize, logEvery } = this.#config;
    const { step, epochLoss, epochCorrect } = this.#state;
    const report: StepReport = {
      step,
      steps: this.#steps,
      epoch: Math.floor((step - 1) / this.#stepsPerEpoch),
      position,
      stepsPerEpoch: this.#stepsPerEpoch,
      batchSize,
      loss: epochLoss / position,
      accuracy: epochCorrect / (position * batchSize),
      lr: this.#learningRate(step - 1),
      gradNorm,
      imagesPerSecond: this.#speed.imagesPerSecond,
      dataShare: this.#speed.dataShare,
    };
    this.#observer.step?.(report);
    if (step % logEvery !== 0) return;
    const { epoch, loss: trainLoss, accuracy: trainAccuracy, lr } = report;
    this.#log({
      ...{ step, epoch, trainLoss, trainAccuracy, lr, gradNorm },
      imagesPerSecond: Math.round(report.imagesPerSecond),
      dataShare: Number(report.dataShare.toFixed(4)),
    });
  }

  /** Ends the run if the step's figures are not finite: nothing was updated then. Says where it began, and saves what was before. */
  #requireFinite({ loss, gradNorm }: StepResult, batch: BatchData): void {
    if (Number.isFinite(loss) && Number.isFinite(gradNorm)) return;
    this.#trainStep.dispose(); // the replay needs its memory
    defaultGenerator.counter = this.#state.draws;
    const fault = findFault(this.#trained.model, batch, this.#config);
    defaultGenerator.counter = this.#state.draws;
    this.#saver.ensureLast();
    throw new TrainingError(
      "train",
      `loss or gradient is not finite at step ${this.#state.step + 1}: ${fault}; nothing was updated, and ${this.#folder.last} is from before this step`,
      "finite numbers",
      `loss ${loss}, gradient norm ${gradNorm}`,
    );
  }

  async #next(batches: AsyncIterator<BatchData>): Promise<BatchData | undefined> {
    const { done, value } = await this.#speed.waitFor(batches.next());
    return done ? undefined : value;
  }

  #batch(step: number): Promise<BatchData> {
    const { batchSize, seed, augment, labelSmoothing } = this.#config;
    const epoch = Math.floor(step / this.#stepsPerEpoch);
    const position = step % this.#stepsPerEpoch;
    if (this.#order?.epoch !== epoch)
      this.#order = { epoch, samples: epochOrder(this.#data.train.count, seed, epoch) };
    const samples = this.#order.samples.subarray(position * batchSize, (position + 1) * batchSize);
    const changes = { spec: augment, seed, epoch, batch: position, smoothing: labelSmoothing };
    return this.#loader.batch(samples, changes);
  }

  /** Evaluates, and saves. @returns the test accuracy */
  async #endEpoch(): Promise<number> {
    const state = this.#state;
    const { model, average } = this.#trained;
    const epoch = state.step / this.#stepsPerEpoch - 1;
    const test = await evaluate(model, this.#testImages, this.#config);
    const ema = average && (await evaluate(average, this.#testImages, this.#config));
    const best = test.top1 > state.bestAccuracy;
    const bestEma = ema !== undefined && ema.top1 > state.bestEmaAccuracy;
    if (best) state.bestAccuracy = test.top1;
    if (bestEma) state.bestEmaAccuracy = ema.top1;
    state.epochsSinceBest = best || bestEma ? 0 : state.epochsSinceBest + 1;
    const trainLoss = state.epochLoss / this.#stepsPerEpoch;
    const trainAccuracy = state.epochCorrect / (this.#stepsPerEpoch * this.#config.batchSize);
    this.#log({
      ...{ step: state.step, epoch, trainLoss, trainAccuracy, lr: this.#learningRate(state.step - 1) },
      ...{ testLoss: test.loss, testAccuracy: test.top1 },
      ...(ema && { emaTestLoss: ema.loss, emaTestAccuracy: ema.top1 }),
    });
    this.#observer.epoch?.({ epoch, trainLoss, trainAccuracy, test, ema, best, bestEma });
    // last, which says that this epoch was evaluated, comes after the best: a run killed in between does it again
    if (best) this.#saver.saveBest(this.#folder.best);
    if (bestEma) this.#saver.saveBest(this.#folder.bestEma);
    this.#saver.saveLast();
    this.#speed.pause();
    return test.top1;
  }

  #log(line: MetricsLine): void {
    this.#record(() => this.#metrics.append(line));
  }

  /** A line that cannot be written is lost; the run is worth more. Said once. */
  #record(write: () => void): void {
    try {
      this.#folder.attempt(write);
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      if (!this.#logFailed)
        this.#observer.warning?.(`${error.message} (the run goes on without these metrics)`);
      this.#logFailed = true;
    }
  }
}
