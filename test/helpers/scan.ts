/** The selective scan and its gradients, sequential and in float64: what the kernels are held to. */
import { count, type NdArray, nd } from "./nd.js";

export interface ScanInputs {
  u: NdArray;
  delta: NdArray;
  A: NdArray;
  /** [batch, length, groups, states], or without groups. */
  B: NdArray;
  C: NdArray;
  D?: NdArray | null;
  deltaBias?: NdArray | null;
  /** [length], [batch, length] or [1 or batch, groups, length]. */
  order?: NdArray | null;
}
export interface ScanOptions {
  deltaSoftplus?: boolean;
  merge?: boolean;
}
export type ScanGradients = Record<"u" | "delta" | "A" | "B" | "C" | "D" | "deltaBias", Float64Array>;

/** All index arithmetic of a scan in one place. */
class Walk {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly states: number;
  readonly groups: number;
  readonly own: number;
  readonly outChannels: number;
  readonly #inputs: ScanInputs;
  readonly #shared: boolean;
  readonly #merge: boolean;

  constructor(inputs: ScanInputs, options: ScanOptions) {
    [this.batch, this.length, this.channels] = inputs.delta.shape;
    this.states = inputs.A.shape[1];
    this.groups = inputs.B.shape.length === 4 ? inputs.B.shape[2] : 1;
    this.own = this.channels / this.groups;
    this.outChannels = options.merge ? this.own : this.channels;
    this.#inputs = inputs;
    this.#merge = options.merge ?? false;
    this.#shared = inputs.u.shape[2] !== this.channels;
  }

  group(d: number): number {
    return Math.floor(d / this.own);
  }
  token(b: number, d: number, position: number): number {
    const { order } = this.#inputs;
    if (!order) return position;
    const { shape, data } = order;
    if (shape.length === 1) return data[position];
    if (shape.length === 2) return data[b * this.length + position];
    return data[((shape[0] === 1 ? 0 : b) * this.groups + this.group(d)) * this.length + position];
  }
  u(b: number, token: number, d: number): number {
    const width = this.#shared ? this.own : this.channels;
    return (b * this.length + token) * width + (this.#shared ? d % this.own : d);
  }
  y(b: number, token: number, d: number): number {
    return (b * this.length + token) * this.outChannels + (this.#merge ? d % this.own : d);
  }
  delta(b: number, token: number, d: number): number {
    return (b * this.length + token) * this.channels + d;
  }
  /** Of B or C, at state 0. */
  state(b: number, token: number, d: number): number {
    return ((b * this.length + token) * this.groups + this.group(d)) * this.states;
  }
}

function softplus(x: number): number {
  return x > 20 ? x : Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

export function scanForward(inputs: ScanInputs, options: ScanOptions = {}): NdArray {
  const { u, delta, A, B, C, D, deltaBias } = inputs;
  const walk = new Walk(inputs, options);
  const y = nd([walk.batch, walk.length, walk.outChannels]);
  const h = new Float64Array(walk.states);
  for (let b = 0; b < walk.batch; b++)
    for (let d = 0; d < walk.channels; d++) {
      h.fill(0);
      for (let position = 0; position < walk.length; position++) {
        const token = walk.token(b, d, position);
        const raw = delta.data[walk.delta(b, token, d)] + (deltaBias ? deltaBias.data[d] : 0);
        const dt = options.deltaSoftplus ? softplus(raw) : raw;
        const input = u.data[walk.u(b, token, d)];
        const at = walk.state(b, token, d);
        let sum = D ? D.data[d] * input : 0;
        for (let n = 0; n < walk.states; n++) {
          h[n] = Math.exp(dt * A.data[d * walk.states + n]) * h[n] + dt * B.data[at + n] * input;
          sum += C.data[at + n] * h[n];
        }
        y.data[walk.y(b, token, d)] += sum;
      }
    }
  return y;
}

/** Gradients of sum(dy * y), derived by hand: the adjoint state g runs backward through h_j = a_j h_{j-1} + dt_j B_j u_j. */
export function scanBackward(inputs: ScanInputs, options: ScanOptions, dy: NdArray): ScanGradients {
  const { u, delta, A, B, C, D, deltaBias } = inputs;
  const walk = new Walk(inputs, options);
  const { states, length } = walk;
  const zeros = (like: NdArray) => new Float64Array(count(like.shape));
  const grads: ScanGradients = {
    u: zeros(u),
    delta: zeros(delta),
    A: zeros(A),
    B: zeros(B),
    C: zeros(C),
    D: new Float64Array(walk.channels),
    deltaBias: new Float64Array(walk.channels),
  };
  const history = new Float64Array((length + 1) * states);
  const g = new Float64Array(states);
  const steps = new Float64Array(length);
  const slopes = new Float64Array(length);
  for (let b = 0; b < walk.batch; b++)
    for (let d = 0; d < walk.channels; d++) {
      for (let position = 0; position < length; position++) {
        const token = walk.token(b, d, position);
        const raw = delta.data[walk.delta(b, token, d)] + (deltaBias ? deltaBias.data[d] : 0);
        const dt = options.deltaSoftplus ? softplus(raw) : raw;
        steps[position] = dt;
        slopes[position] = options.deltaSoftplus && raw <= 20 ? sigmoid(raw) : 1;
        const at = walk.state(b, token, d);
        for (let n = 0; n < states; n++)
          history[(position + 1) * states + n] =
            Math.exp(dt * A.data[d * states + n]) * history[position * states + n] +
            dt * B.data[at + n] * u.data[walk.u(b, token, d)];
      }
      g.fill(0);
      for (let position = length - 1; position >= 0; position--) {
        const token = walk.token(b, d, position);
        const dt = steps[position];
        const input = u.data[walk.u(b, token, d)];
        const out = dy.data[walk.y(b, token, d)];
        const at = walk.state(b, token, d);
        let [dInput, dStep] = [D ? D.data[d] * out : 0, 0];
        grads.D[d] += out * input;
        for (let n = 0; n < states; n++) {
          const a = A.data[d * states + n];
          const decay = Math.exp(dt * a);
          const before = history[position * states + n];
          g[n] += C.data[at + n] * out;
          grads.C[at + n] += out * history[(position + 1) * states + n];
          grads.B[at + n] += g[n] * dt * input;
          dInput += g[n] * dt * B.data[at + n];
          dStep += g[n] * (a * decay * before + B.data[at + n] * input);
          grads.A[d * states + n] += g[n] * dt * decay * before;
          g[n] *= decay;
        }
        grads.u[walk.u(b, token, d)] += dInput;
        grads.delta[walk.delta(b, token, d)] += dStep * slopes[position];
        grads.deltaBias[d] += dStep * slopes[position];
      }
    }
  return grads;
}
