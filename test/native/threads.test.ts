/** The number of threads changes no bit of any result. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as qm from "../../lib/index.js";
import type { Tensor } from "../../lib/index.js";
import { leakFree } from "../helpers/leaks.js";
import { TinyTraining } from "../helpers/tiny_training.js";

const test = suite("threads");

type Results = Record<string, Uint8Array>;
const bits = (t: Tensor): Uint8Array => {
  const data = t.toTypedArray();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
};
const leaf = (shape: number[]): Tensor => qm.randn(shape, { requiresGrad: true });

/** Results and gradients of an op on inputs that are the same each time. */
function run(f: (...inputs: Tensor[]) => Tensor, ...shapes: number[][]): Results {
  const inputs = shapes.map(leaf);
  const y = f(...inputs);
  const gradients = qm.grad(y, inputs, { gradient: qm.randn(y.shape) });
  return Object.fromEntries([
    ["y", bits(y)],
    ...gradients.map((g, k) => [`gradient ${k}`, bits(g as Tensor)]),
  ]);
}

/** Sizes that are cut into several pieces of work, with remainders. */
const CASES: Record<string, () => Results> = {
  "matmul of a long inner dimension": () => run((a, b) => qm.matmul(a, b), [37, 5003], [5003, 29]),
  "matmul of a large result": () => run((a, b) => qm.matmul(a, b), [301, 67], [67, 259]),
  "batches of products": () => run((a, b) => qm.matmul(a, b), [7, 33, 65], [7, 65, 31]),
  linear: () => run((x, w, b) => qm.linear(x, w, b), [2, 1000, 48], [96, 48], [96]),
  groupedLinear: () => run((x, w) => qm.groupedLinear(x, w), [2, 500, 4, 48], [4, 7, 48]),
  "sum of all": () => run((x) => qm.sum(x), [300_007]),
  "sum of rows": () => run((x) => qm.sum(x, 1), [3, 100_003]),
  "sum of columns": () => run((x) => qm.sum(x, 0), [10_007, 33]),
  "sum of the middle": () => run((x) => qm.sum(x, 1), [3, 2003, 17]),
  mean: () => run((x) => qm.mean(x), [200_003]),
  var: () => run((x) => qm.var(x, 0), [5003, 17]),
  max: () => run((x) => qm.max(x), [200_003]),
  logsumexp: () => run((x) => qm.logsumexp(x), [100_003]),
  softmax: () => run((x) => qm.softmax(x), [501, 303]),
  layerNorm: () => run((x, w, b) => qm.layerNorm(x, w, b), [2, 3001, 48], [48], [48]),
  crossEntropy: () => {
    const labels = qm.tensor(Int32Array.from({ length: 4001 }, (_, k) => k % 10));
    return run((x) => qm.crossEntropy(x, labels, { smoothing: 0.1 }), [4001, 10]);
  },
  conv2d: () => run((x, w, b) => qm.conv2d(x, w, b, { padding: 1 }), [2, 27, 29, 16], [24, 16, 3, 3], [24]),
  "strided conv2d": () =>
    run((x, w) => qm.conv2d(x, w, null, { stride: 2, padding: 1 }), [3, 33, 31, 3], [32, 3, 3, 3]),
  "depthwise conv2d": () =>
    run((x, w, b) => qm.conv2d(x, w, b, { padding: 1, groups: 96 }), [2, 28, 28, 96], [96, 1, 3, 3], [96]),
  avgPool: () => run((x) => qm.avgPool(x, { kernel: 3, stride: 2, padding: 1 }), [2, 57, 55, 24]),
  interpolate: () => run((x) => qm.interpolate(x, { size: 61, mode: "bilinear" }), [2, 28, 28, 24]),
  "selectiveScan, one state": () => scan(784, 48, 2, 1),
  "selectiveScan, 16 states": () => scan(196, 32, 4, 16),
  // many channels in slices, short sequences that share a task
  projectedScan: () =>
    run(
      (u, projected, weight, A, D) => qm.projectedScan(u, projected, weight, qm.neg(qm.exp(A)), { D }),
      [67, 5, 150],
      [67, 5, 2, 3 + 2 * 5],
      [2, 150, 3],
      [300, 5],
      [300],
    ),
  depthwiseSilu: () => run((x, w, b) => qm.depthwiseSilu(x, w, b), [2, 28, 28, 97], [97, 1, 3, 3], [97]),
  scatterAdd: () => {
    const index = qm.tensor(
      Int32Array.from({ length: 60_000 }, (_, k) => (k * 7919) % 50),
      [20_000, 3],
    );
    return run((x, s) => qm.scatterAdd(x, 0, index, s), [50, 3], [20_000, 3]);
  },
  "broadcast sums": () => run((a, b) => qm.mul(a, b), [1, 401, 97], [5, 1, 97]),
  elementwise: () => run((x) => qm.gelu(qm.silu(qm.exp(qm.mul(x, 0.1)))), [100_003]),
  random: () => ({
    rand: bits(qm.rand([100_003])),
    randn: bits(qm.randn([100_003])),
    dropped: bits(qm.dropout(qm.ones([100_003]), 0.3)),
  }),
  "an optimizer's step": () => {
    const parameters = [leaf([50_001]), leaf([33, 77])];
    const optimizer = new qm.AdamW(parameters, { lr: 0.1 });
    for (const p of parameters) qm.sum(qm.mul(p, p)).backward();
    const norm = qm.clipGradNorm(parameters, 1);
    optimizer.step();
    optimizer.dispose();
    return Object.fromEntries([
      ["norm", bits(norm)],
      ...parameters.map((p, k) => [`parameter ${k}`, bits(p)]),
    ]);
  },
};

function scan(length: number, channels: number, groups: number, states: number): Results {
  const order = qm.tensor(
    Int32Array.from({ length: groups * length }, (_, k) => (k % length) * 1),
    [1, groups, length],
  );
  return run(
    (u, delta, A, B, C, D) =>
      qm.selectiveScan(u, delta, qm.neg(qm.exp(A)), B, C, { D, deltaSoftplus: true, order, merge: true }),
    [3, length, channels / groups],
    [3, length, channels],
    [channels, states],
    [3, length, groups, states],
    [3, length, groups, states],
    [channels],
  );
}

for (const [name, make] of Object.entries(CASES))
  test(
    name,
    leakFree(() => {
      const before = qm.getThreads();
      try {
        const runs = [1, 2, 3, 8].map((threads) => {
          qm.setThreads(threads);
          qm.manualSeed(17);
          return qm.scope(make);
        });
        for (const [k, other] of runs.entries())
          for (const key of Object.keys(runs[0]))
            assert.ok(
              Buffer.compare(other[key], runs[0][key]) === 0,
              `${name}: ${key} differs between 1 and ${[1, 2, 3, 8][k]} threads`,
            );
      } finally {
        qm.setThreads(before);
      }
    }),
  );

test("100 steps of training end in the same parameters", () => {
  const before = qm.getThreads();
  try {
    const hashes = [1, 2, 3, 8].map((threads) => {
      qm.setThreads(threads);
      const training = new TinyTraining({ device: "cpu" });
      for (let k = 0; k < 100; k++) training.step();
      const hash = training.hash();
      training.dispose();
      return hash;
    });
    assert.equal(new Set(hashes).size, 1);
  } finally {
    qm.setThreads(before);
  }
});

test("setThreads refuses what is no number of threads", () => {
  for (const n of [0, -1, 257, 1.5, Number.NaN, "2", undefined])
    assert.throws(() => qm.setThreads(n as number), /setThreads: /);
  const before = qm.getThreads();
  qm.setThreads(3);
  assert.is(qm.getThreads(), 3);
  qm.setThreads(before);
});

test.run();
