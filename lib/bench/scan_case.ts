/** The selective scan of one shape, three ways: fused, and as plain loops in C++ and in TypeScript. */
import { noGrad } from "../autograd/mode.js";
import { addon } from "../native/addon.js";
import {
  abs,
  cast,
  mul,
  neg,
  randn,
  type SelectiveScanOptions,
  selectiveScan,
  tensor,
  to,
} from "../ops/index.js";
import { Generator } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import type { Device, Tensor } from "../tensor/tensor.js";
import {
  type Floats,
  plainScan,
  plainScanBackward,
  type ScanArrays,
  type ScanSizes,
  zerosLike,
} from "./plain_scan.js";

export const SCAN_DTYPES = ["float32", "float64", "bfloat16"] as const;
export type ScanDType = (typeof SCAN_DTYPES)[number];

/** `training` is forward and backward: gradients of all inputs. */
export const PASSES = ["forward", "training"] as const;
export type Pass = (typeof PASSES)[number];

export const SCAN_VARIANTS = ["fused", "plain C++", "plain TypeScript"] as const;
export type ScanVariant = (typeof SCAN_VARIANTS)[number];

export interface ScanShape extends ScanSizes {
  dtype: ScanDType;
  device: Device;
}

/** What is timed, and its result once more as arrays: y, or the gradients of u, delta, A, B and C. */
interface Runnable {
  run(): unknown;
  result(): Floats[];
}

/** What a scan must move and compute at least. */
export interface Cost {
  /** Every input read once and every output written once; backward reads its inputs again. */
  bytes: number;
  flops: number;
}

/** Updates of a state: what "per element" means for a scan. */
export function scanElements({ batch, length, channels, directions, states }: ScanSizes): number {
  return batch * length * channels * directions * states;
}

// Of one state at one step, an exponential counted as one: dt A, exp, decay h, (dt u) B, their sum, C h and its sum.
const FORWARD_FLOPS = 7;
// decay and its argument, dh, dC, dB, the carry, and the parts of du, d(dt) and dA.
const BACKWARD_FLOPS = 16;

export function scanCost(shape: ScanShape, pass: Pass): Cost {
  const { batch, length, channels, directions, states, dtype } = shape;
  const width = { float32: 4, float64: 8, bfloat16: 2 }[dtype];
  const [shared, all, bc] = [channels, directions * channels, 2 * directions * states];
  const forward = 2 * shared + all + bc;
  const backward = 3 * shared + 2 * all + 2 * bc;
  const perState = FORWARD_FLOPS + (pass === "training" ? BACKWARD_FLOPS : 0);
  return {
    bytes: batch * length * width * (forward + (pass === "training" ? backward : 0)),
    flops: scanElements(shape) * perState,
  };
}

export class ScanCase {
  readonly #shape: ScanShape;
  readonly #inputs: ScanArrays;
  readonly #dy: Floats;
  readonly #tensors: Tensor[];
  readonly #slope: Tensor;
  readonly #options: SelectiveScanOptions;

  constructor(shape: ScanShape) {
    this.#shape = shape;
    const { batch, length, channels, directions, states, dtype, device } = shape;
    const all = directions * channels;
    const generator = new Generator(0);
    // what the plain loops read is what the tensors hold: rounded, where the dtype rounds
    const plainType = dtype === "float64" ? "float64" : "float32";
    const random = (dims: number[], map = (t: Tensor) => t, type: ScanDType = dtype): [Tensor, Floats] =>
      scope(() => {
        const x = cast(map(randn(dims, { generator, dtype: plainType })), type);
        return [to(x, device).keep(), cast(x, plainType).toTypedArray() as Floats];
      });
    const parameters = dtype === "bfloat16" ? "float32" : dtype;
    const made = [
      random([batch, length, channels]),
      random([batch, length, all], (t) => mul(abs(t), 0.1)),
      random([all, states], (t) => neg(abs(t)), parameters),
      random([batch, length, directions, states]),
      random([batch, length, directions, states]),
    ];
    [this.#slope, this.#dy] = random([batch, length, channels]);
    this.#tensors = made.map(([t]) => t);
    const [u, delta, A, B, C] = made.map(([, values]) => values);
    this.#inputs = { u, delta, A, B, C };
    this.#options =
      directions === 1 ? {} : { merge: true, order: readingOrders(directions, length, device).keep() };
  }

  variant(name: ScanVariant, pass: Pass): Runnable {
    if (name === "fused") return pass === "forward" ? this.#fusedForward() : this.#fusedTraining();
    const loop = name === "plain C++" ? nativeScan : scriptScan;
    // made once: what is timed is the loop, not the system's handing out of pages
    const h = zerosLike(this.#dy, pass === "training" ? scanElements(this.#shape) : 0);
    const run = () => loop(this.#shape, this.#inputs, pass, h, this.#dy);
    return { run, result: run };
  }

  /** The plain loop in float64, on the same inputs. */
  reference(pass: Pass): Floats[] {
    const wide = (t: Floats) => Float64Array.from(t);
    const { u, delta, A, B, C } = this.#inputs;
    const inputs = { u: wide(u), delta: wide(delta), A: wide(A), B: wide(B), C: wide(C) };
    const h = new Float64Array(pass === "training" ? scanElements(this.#shape) : 0);
    return scriptScan(this.#shape, inputs, pass, h, wide(this.#dy));
  }

  #scan(): Tensor {
    const [u, delta, A, B, C] = this.#tensors;
    return selectiveScan(u, delta, A, B, C, this.#options);
  }
  #fusedForward(): Runnable {
    return {
      run: () => noGrad(() => this.#scan()),
      result: () => scope(() => [valuesOf(noGrad(() => this.#scan()))]),
    };
  }
  #fusedTraining(): Runnable {
    const backward = () => {
      for (const t of this.#tensors) t.requiresGrad = true;
      this.#scan().backward(this.#slope);
      return this.#tensors.map((t) => t.grad as Tensor);
    };
    const release = () => {
      for (const t of this.#tensors) {
        t.grad?.dispose();
        t.grad = null;
      }
    };
    return {
      run: () => {
        backward();
        release();
      },
      result: () =>
        scope(() => {
          const values = backward().map(valuesOf);
          release();
          return values;
        }),
    };
  }

  dispose(): void {
    for (const t of [...this.#tensors, this.#slope]) t.dispose();
    this.#options.order?.dispose();
  }
}

function valuesOf(t: Tensor): Floats {
  return (t.dtype === "bfloat16" ? cast(t, "float32") : t).toTypedArray() as Floats;
}

/** By turns from the first token to the last, and back. */
function readingOrders(directions: number, length: number, device: Device): Tensor {
  const order = new Int32Array(directions * length);
  for (let g = 0; g < directions; g++)
    for (let k = 0; k < length; k++) order[g * length + k] = g % 2 === 0 ? k : length - 1 - k;
  return tensor(order, [1, directions, length], { device });
}

/** @param h room for the states of all steps, for training */
type Loop = (sizes: ScanSizes, inputs: ScanArrays, pass: Pass, h: Floats, dy: Floats) => Floats[];

const scriptScan: Loop = (sizes, inputs, pass, h, dy) => {
  if (pass === "forward") return [plainScan(sizes, inputs)];
  plainScan(sizes, inputs, h);
  return Object.values(plainScanBackward(sizes, inputs, h, dy));
};

const nativeScan: Loop = (sizes, { u, delta, A, B, C }, pass, h, dy) => {
  const { batch, length, channels, directions, states } = sizes;
  const dims = Float64Array.of(batch, length, channels, directions, states);
  const inputs = [u, delta, A, B, C];
  const y = zerosLike(u);
  if (pass === "forward") {
    addon.plainScan(dims, ...inputs, y, h);
    return [y];
  }
  const gradients = inputs.map((t) => zerosLike(t));
  addon.plainScan(dims, ...inputs, y, h, dy, ...gradients);
  return gradients;
};
