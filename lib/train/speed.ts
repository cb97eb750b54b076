/** Seconds over which speed is measured, at least. */
const SPAN = 0.5;

/** How fast a run is, and what it waits for. */
export class Speed {
  #begun = performance.now();
  #images = 0;
  /** Milliseconds of waiting for batches. */
  #waited = 0;
  imagesPerSecond = 0;
  /** Share of the time in which the run waited for its next batch. */
  dataShare = 0;

  /** Waits for a batch, and counts the time. */
  async waitFor<T>(batch: Promise<T>): Promise<T> {
    const begun = performance.now();
    const result = await batch;
    this.#waited += performance.now() - begun;
    return result;
  }

  /** A step was taken. */
  count(images: number): void {
    this.#images += images;
    const elapsed = performance.now() - this.#begun;
    if (elapsed < 1000 * SPAN && this.imagesPerSecond > 0) return;
    this.imagesPerSecond = (1000 * this.#images) / elapsed;
    this.dataShare = this.#waited / elapsed;
    this.pause();
  }

  /** What comes until now is no part of the training. */
  pause(): void {
    this.#begun = performance.now();
    this.#images = 0;
    this.#waited = 0;
  }
}
