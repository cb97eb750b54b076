/**
 * The selective scan as one would write it first: plain loops over typed arrays. The yardstick of the benches and what they check
 * results against, not a path of the library. native/bench/bench.cpp is the same in C++.
 */
export type Floats = Float32Array | Float64Array;

export interface ScanSizes {
  batch: number;
  length: number;
  channels: number;
  /** Odd ones read the tokens from the last to the first. */
  directions: number;
  states: number;
}

/**
 * u [batch, length, channels], delta [batch, length, directions, channels], A [directions, channels, states], B and C
 * [batch, length, directions, states].
 */
export interface ScanArrays {
  u: Floats;
  delta: Floats;
  A: Floats;
  B: Floats;
  C: Floats;
}

/** Zeros of the type of `like`. */
export function zerosLike(like: Floats, size = like.length): Floats {
  return like instanceof Float64Array ? new Float64Array(size) : new Float32Array(size);
}

/**
 * y [batch, length, channels], the sum over the directions.
 * @param h gets the state after every step, [batch, length, directions, channels, states], which backward needs
 */
export function plainScan(sizes: ScanSizes, { u, delta, A, B, C }: ScanArrays, h?: Floats): Floats {
  const { batch, length, channels, directions, states } = sizes;
  const y = zerosLike(u);
  const state = zerosLike(u, channels * states);
  for (let b = 0; b < batch; b++)
    for (let g = 0; g < directions; g++) {
      state.fill(0);
      for (let step = 0; step < length; step++) {
        const token = b * length + (g % 2 === 0 ? step : length - 1 - step);
        const place = token * directions + g;
        for (let c = 0; c < channels; c++) {
          const dt = delta[place * channels + c];
          const driven = dt * u[token * channels + c];
          let sum = 0;
          for (let n = 0; n < states; n++) {
            const at = c * states + n;
            const decay = Math.exp(dt * A[g * channels * states + at]);
            const now = decay * state[at] + driven * B[place * states + n];
            state[at] = now;
            if (h) h[place * channels * states + at] = now;
            sum += C[place * states + n] * now;
          }
          y[token * channels + c] += sum;
        }
      }
    }
  return y;
}

/** Gradients of all inputs for a given dy. */
export function plainScanBackward(
  sizes: ScanSizes,
  { u, delta, A, B, C }: ScanArrays,
  h: Floats,
  dy: Floats,
): ScanArrays {
  const { batch, length, channels, directions, states } = sizes;
  const [du, ddelta, dA, dB, dC] = [u, delta, A, B, C].map((t) => zerosLike(t));
  const carry = zerosLike(u, channels * states);
  for (let b = 0; b < batch; b++)
    for (let g = 0; g < directions; g++) {
      carry.fill(0);
      for (let step = length - 1; step >= 0; step--) {
        const token = b * length + (g % 2 === 0 ? step : length - 1 - step);
        const place = token * directions + g;
        const earlier = place + (g % 2 === 0 ? -directions : directions);
        for (let c = 0; c < channels; c++) {
          const [x, dt, slope] = [
            u[token * channels + c],
            delta[place * channels + c],
            dy[token * channels + c],
          ];
          let [dx, ddt] = [0, 0];
          for (let n = 0; n < states; n++) {
            const at = c * states + n;
            const [a, bc] = [g * channels * states + at, place * states + n];
            const before = step === 0 ? 0 : h[earlier * channels * states + at];
            const decay = Math.exp(dt * A[a]);
            const dh = slope * C[bc] + carry[at];
            carry[at] = dh * decay;
            dC[bc] += slope * h[place * channels * states + at];
            dB[bc] += dh * dt * x;
            dA[a] += dh * decay * before * dt;
            dx += dh * dt * B[bc];
            ddt += dh * (B[bc] * x + A[a] * decay * before);
          }
          du[token * channels + c] += dx;
          ddelta[place * channels + c] = ddt;
        }
      }
    }
  return { u: du, delta: ddelta, A: dA, B: dB, C: dC };
}
