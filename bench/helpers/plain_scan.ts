/**
 * The selective scan as one would write it first: plain loops over float32 arrays. The yardstick of the bench, not a path of the
 * library. One group; u and delta [batch, length, channels], A [channels, states], B and C [batch, length, states].
 */
export interface PlainScanInputs {
  batch: number;
  length: number;
  channels: number;
  states: number;
  u: Float32Array;
  delta: Float32Array;
  A: Float32Array;
  B: Float32Array;
  C: Float32Array;
}

/** y [batch, length, channels], and the states after every step for the way back. */
export function plainScan(s: PlainScanInputs): {
  y: Float32Array;
  h: Float32Array;
} {
  const { batch, length, channels, states, u, delta, A, B, C } = s;
  const y = new Float32Array(batch * length * channels);
  const h = new Float32Array(batch * length * channels * states);
  for (let b = 0; b < batch; b++)
    for (let t = 0; t < length; t++)
      for (let c = 0; c < channels; c++) {
        const at = (b * length + t) * channels + c;
        const step = delta[at];
        let sum = 0;
        for (let n = 0; n < states; n++) {
          const before = t === 0 ? 0 : h[(at - channels) * states + n];
          const now =
            Math.exp(step * A[c * states + n]) * before + step * B[(b * length + t) * states + n] * u[at];
          h[at * states + n] = now;
          sum += C[(b * length + t) * states + n] * now;
        }
        y[at] = sum;
      }
  return { y, h };
}

/** Gradients of all inputs for a given dy. */
export function plainScanBackward(s: PlainScanInputs, h: Float32Array, dy: Float32Array) {
  const { batch, length, channels, states, u, delta, A, B, C } = s;
  const du = new Float32Array(u.length);
  const ddelta = new Float32Array(delta.length);
  const dA = new Float32Array(A.length);
  const dB = new Float32Array(B.length);
  const dC = new Float32Array(C.length);
  const carry = new Float32Array(channels * states);
  for (let b = 0; b < batch; b++) {
    carry.fill(0);
    for (let t = length - 1; t >= 0; t--)
      for (let c = 0; c < channels; c++) {
        const at = (b * length + t) * channels + c;
        const step = delta[at];
        for (let n = 0; n < states; n++) {
          const [a, bc] = [c * states + n, (b * length + t) * states + n];
          const before = t === 0 ? 0 : h[(at - channels) * states + n];
          const decay = Math.exp(step * A[a]);
          const dh = dy[at] * C[bc] + carry[a];
          dC[bc] += dy[at] * h[at * states + n];
          dB[bc] += dh * step * u[at];
          du[at] += dh * step * B[bc];
          ddelta[at] += dh * (B[bc] * u[at] + A[a] * decay * before);
          dA[a] += dh * step * decay * before;
          carry[a] = dh * decay;
        }
      }
  }
  return { du, ddelta, dA, dB, dC };
}
