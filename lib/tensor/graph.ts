/**
 * Recording of work on a GPU. A step that does the same every time, on inputs in the same place, is recorded once and launched
 * as a whole from then on: the host's part of it is one call.
 */
import { addon, translate } from "../native/addon.js";
import { requireFunction } from "../util/check.js";
import { ArgumentError } from "../util/errors.js";
import { defaultGenerator } from "./random.js";
import { type Device, deviceCode, requireDevice } from "./tensor.js";

/** A recorded piece of work, with the memory that it uses. */
export class Graph {
  readonly #device: number;
  readonly #id: number;
  /** Draws of the default generator: before the recording, and in it. */
  readonly #firstDraw: number;
  readonly #draws: number;
  #disposed = false;

  constructor(device: number, id: number, firstDraw: number, draws: number) {
    this.#device = device;
    this.#id = id;
    this.#firstDraw = firstDraw;
    this.#draws = draws;
  }

  /**
   * Does the recorded work again, asynchronously: what it read it reads anew, what it wrote it overwrites. Random numbers go on
   * where the default generator stands, and move it on, as if the work had been done step by step.
   */
  replay(): void {
    if (this.#disposed) throw new ArgumentError("Graph.replay", "the graph was disposed", "a live graph");
    try {
      addon.replay(this.#device, this.#id, defaultGenerator.counter - this.#firstDraw);
    } catch (error) {
      throw translate("Graph.replay", error);
    }
    defaultGenerator.counter += this.#draws;
  }

  /** Frees the graph. The tensors that its recording returned are no longer written. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    addon.dropGraph(this.#device, this.#id);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Records the work of `fn` instead of doing it; `graph.replay()` then does it. The tensors in `result` are where each replay leaves
 * its results. `fn` must have run once before (constants are on the device then), must not read tensors, and must not depend on
 * anything that changes from call to call but the elements of tensors made before and the default generator.
 * @throws {DeviceError} on the CPU, which does not record
 */
export function capture<R>(fn: () => R, device: Device = "cuda"): { graph: Graph; result: R } {
  requireFunction("capture", "callback", fn);
  const code = deviceCode(requireDevice("capture", device));
  const firstDraw = defaultGenerator.counter;
  try {
    addon.beginCapture(code);
    let result: R;
    try {
      result = fn();
    } catch (error) {
      addon.abortCapture(code);
      throw error;
    }
    const id = addon.endCapture(code);
    return { graph: new Graph(code, id, firstDraw, defaultGenerator.counter - firstDraw), result };
  } catch (error) {
    throw translate("capture", error);
  } finally {
    // nothing was drawn yet
    defaultGenerator.counter = firstDraw;
  }
}
