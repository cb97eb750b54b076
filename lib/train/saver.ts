import { FileError } from "../util/errors.js";
import { type CheckpointFacts, saveCheckpoint, type Trained } from "./checkpoint.js";
import type { TrainObserver } from "./observer.js";
import type { RunFolder } from "./run_folder.js";

const MAX_FAILED_SAVES = 3;

/** Writes the checkpoints of a run. One that fails costs nothing but itself, unless it keeps failing. */
export class Saver {
  #failed = 0;
  /** Step of the newest last.safetensors that was written. */
  #savedStep = -1;

  constructor(
    private readonly trained: Trained,
    private readonly facts: CheckpointFacts,
    private readonly folder: RunFolder,
    private readonly observer: TrainObserver,
  ) {}

  saveLast(): void {
    this.#attempt(() => this.#writeLast());
  }

  saveBest(path: string): void {
    this.#attempt(() => this.#write(path));
  }

  /** Where a run ends a save must succeed: there is no later one to make up for it. */
  ensureLast(): void {
    if (this.#savedStep !== this.facts.state.step) this.#writeLast();
  }

  #writeLast(): void {
    const { config, state } = this.facts;
    this.folder.replaceLast(state.step, config.keep, (path) => this.#write(path));
    this.#savedStep = state.step;
  }

  #write(path: string): void {
    saveCheckpoint(path, this.trained, this.facts);
    this.observer.saved?.(path);
  }

  #attempt(save: () => void): void {
    try {
      save();
      this.#failed = 0;
    } catch (error) {
      if (!(error instanceof FileError) || ++this.#failed >= MAX_FAILED_SAVES) throw error;
      this.observer.warning?.(
        `${error.message} (the run goes on; ${MAX_FAILED_SAVES} failures in a row end it)`,
      );
    }
  }
}
