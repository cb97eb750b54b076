/** Checkpointing: the same gradients from less memory. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  ArgumentError,
  checkpoint,
  dropout,
  exp,
  gelu,
  manualSeed,
  matmul,
  memory,
  mul,
  noGrad,
  ones,
  randn,
  scope,
  sum,
  type Tensor,
  tanh,
} from "../../lib/index.js";
import { values } from "../helpers/compare.js";
import { leakFree, thrown } from "../helpers/leaks.js";

const test = suite("checkpoint");
const gradOf = (t: Tensor): Float64Array => values(t.grad as Tensor);

/** Sixteen layers that each save what they need; `wrap` may checkpoint them. */
function network(x: Tensor, w: Tensor, wrap: (fn: (x: Tensor) => Tensor, x: Tensor) => Tensor): Tensor {
  let y = x;
  for (let k = 0; k < 16; k++) y = wrap((h) => scope(() => dropout(gelu(tanh(matmul(h, w))), 0.3)), y);
  return sum(mul(y, y));
}
const plain = (fn: (x: Tensor) => Tensor, x: Tensor) => fn(x);
const wrapped = (fn: (x: Tensor) => Tensor, x: Tensor) => checkpoint(fn, x);

test(
  "equal gradients of inputs and of what fn reaches by closure, with the same dropout; less memory at the peak",
  leakFree(() => {
    const peaks: number[] = [];
    const gradients = [plain, wrapped].map((wrap) =>
      scope(() => {
        manualSeed(5);
        const [x, w] = [randn([200, 32], { requiresGrad: true }), randn([32, 32], { requiresGrad: true })];
        memory.resetPeak();
        const before = memory.peakBytes;
        const loss = scope(() => network(x, w, wrap));
        loss.backward();
        peaks.push(memory.peakBytes - before);
        return [loss.item(), ...gradOf(x), ...gradOf(w)];
      }),
    );
    assert.equal(gradients[1], gradients[0]);
    assert.ok(peaks[1] < 0.6 * peaks[0], `peaks ${peaks}`);
  }),
);

test(
  "later draws do not depend on checkpointing",
  leakFree(() => {
    const after = [plain, wrapped].map((wrap) =>
      scope(() => {
        manualSeed(5);
        const [x, w] = [randn([4, 8], { requiresGrad: true }), randn([8, 8], { requiresGrad: true })];
        network(x, w, wrap).backward();
        return values(randn([5]));
      }),
    );
    assert.equal(after[1], after[0]);
  }),
);

test(
  "several inputs, of which some need no gradient",
  leakFree(() => {
    const [a, b] = [ones([2], { requiresGrad: true }), ones([2])];
    const y = checkpoint((p, q) => mul(exp(p), q), a, b);
    assert.ok(y.requiresGrad);
    sum(y).backward();
    assert.ok(gradOf(a).every((v) => Math.abs(v - Math.E) < 1e-6));
    assert.is(b.grad, null);
  }),
);

test(
  "without a gradient in sight it is a plain call",
  leakFree(() => {
    const x = ones([2], { requiresGrad: true });
    assert.is(noGrad(() => checkpoint((t) => mul(t, 2), x)).requiresGrad, false);
  }),
);

test(
  "a result of frozen inputs and parameters needs no gradient",
  leakFree(() => {
    const y = checkpoint((t) => mul(t, 2), ones([2]));
    assert.equal(values(y), Float64Array.of(2, 2));
  }),
);

test(
  "nested",
  leakFree(() => {
    const [x, z] = [ones([3], { requiresGrad: true }), ones([3], { requiresGrad: true })];
    sum(checkpoint((t) => checkpoint((u) => exp(mul(u, u)), exp(t)), x)).backward();
    sum(exp(mul(exp(z), exp(z)))).backward();
    assert.equal(gradOf(x), gradOf(z));
  }),
);

test(
  "refuses what is no function, no tensor, or returns none",
  leakFree(() => {
    thrown(() => checkpoint(3 as never), ArgumentError);
    thrown(() => checkpoint((t) => t, 3 as never), ArgumentError);
    thrown(() => checkpoint(() => 3 as never, ones([1])), ArgumentError);
  }),
);

test.run();
