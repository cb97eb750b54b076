/** What single ops promise beyond the table: gradients at kinks and ties, wrapping integers, NaN in reductions, quad choices. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  argmax,
  type Device,
  logsumexp,
  matmul,
  max,
  maximum,
  min,
  minimum,
  pow,
  quadArrange,
  quadRestore,
  softmax,
  sum,
  type Tensor,
  tensor,
  where,
} from "../../lib/index.js";
import * as ops from "../../lib/ops/index.js";
import type { DType } from "../../lib/tensor/dtype.js";
import { expectCloseValues, expectNormwise, values } from "../helpers/compare.js";
import { onEach } from "../helpers/devices.js";
import { leakFree } from "../helpers/leaks.js";
import { Random } from "../helpers/random.js";

const test = suite("semantics");
const { NaN: nan } = Number;
const leaf = (data: number[], device: Device): Tensor =>
  tensor(data, { dtype: "float64", device, requiresGrad: true });
/** Gradients of the sum of f(x, ..). */
function gradients(f: (...x: Tensor[]) => Tensor, ...inputs: Tensor[]): number[][] {
  sum(f(...inputs)).backward();
  return inputs.map((t) => Array.from(values(t.grad as Tensor)));
}

onEach(
  test,
  "gradients at kinks are those of the docs",
  leakFree((device) => {
    assert.equal(gradients(ops.relu, leaf([-1, 0, 2], device)), [[0, 0, 1]]);
    assert.equal(gradients(ops.abs, leaf([-1, 0, 2], device)), [[-1, 0, 1]]);
    assert.equal(
      gradients((x) => ops.clamp(x, -1, 1), leaf([-2, -1, 0, 1, 2], device)),
      [[0, 1, 1, 1, 0]],
    );
  }),
);

onEach(
  test,
  "equal operands share the gradient of maximum and minimum",
  leakFree((device) => {
    for (const op of [maximum, minimum])
      assert.equal(gradients(op, leaf([1, 2], device), leaf([1, 2], device)), [
        [0.5, 0.5],
        [0.5, 0.5],
      ]);
    assert.equal(gradients(maximum, leaf([1, 3], device), leaf([2, 2], device)), [
      [0, 1],
      [1, 0],
    ]);
  }),
);

onEach(
  test,
  "equal extremes share the gradient of max and min",
  leakFree((device) => {
    assert.equal(
      gradients((x) => max(x), leaf([3, 1, 3, 3], device)),
      [[1 / 3, 0, 1 / 3, 1 / 3]],
    );
    assert.equal(
      gradients((x) => min(x), leaf([3, 1, 1, 3], device)),
      [[0, 0.5, 0.5, 0]],
    );
  }),
);

onEach(
  test,
  "of equal pixels the first one gets the gradient of maxPool",
  leakFree((device) => {
    const x = tensor([5, 5, 5, 5], [1, 2, 2, 1], {
      dtype: "float64",
      device,
      requiresGrad: true,
    });
    sum(ops.maxPool(x, { kernel: 2 })).backward();
    assert.equal(values(x.grad as Tensor), Float64Array.of(1, 0, 0, 0));
  }),
);

onEach(
  test,
  "pow: the exponent's gradient is 0 where the base is",
  leakFree((device) => {
    const [da, db] = gradients(pow, leaf([0, 2], device), leaf([2, 3], device));
    assert.equal(da, [0, 12]);
    expectCloseValues("d pow / d exponent", db, [0, 8 * Math.log(2)], {
      rtol: 1e-15,
    });
  }),
);

onEach(
  test,
  "where passes no NaN through the branch that was not taken",
  leakFree((device) => {
    const x = leaf([0, 4], device);
    const taken = tensor([false, true], { device });
    sum(where(taken, ops.log(x), 0)).backward();
    assert.equal(values(x.grad as Tensor)[1], 0.25);
  }),
);

onEach(
  test,
  "NaN wins in reductions, whichever place it has",
  leakFree((device) => {
    for (const dtype of ["float32", "float64"] as const)
      for (const n of [1, 2, 7, 33, 257])
        for (const at of new Set([0, n >> 1, n - 1])) {
          const x = tensor(
            Array.from({ length: n }, (_, k) => (k === at ? nan : k)),
            { dtype, device },
          );
          for (const op of [max, min, sum, logsumexp])
            assert.ok(Number.isNaN(op(x).item()), `${op.name} of ${n}, NaN at ${at}`);
          assert.is(argmax(x).item(), at);
          assert.ok(values(softmax(x)).every(Number.isNaN));
          const columns = ops.transpose(ops.expand(x, [3, n])).reshape([n, 3]);
          assert.ok(values(max(columns, 0)).every(Number.isNaN));
          assert.equal(Array.from(values(argmax(columns, 0))), [at, at, at]);
        }
  }),
);

onEach(
  test,
  "maxPool: NaN wins",
  leakFree((device) => {
    for (let at = 0; at < 4; at++) {
      const x = tensor(
        [1, 2, 3, 4].map((v, k) => (k === at ? nan : v)),
        [1, 2, 2, 1],
        { device },
      );
      assert.ok(Number.isNaN(ops.maxPool(x, { kernel: 2 }).item()));
    }
  }),
);

onEach(
  test,
  "sums and products of infinities",
  leakFree((device) => {
    const of = (data: number[]) => tensor(data, { device });
    assert.is(sum(of([Infinity, 1])).item(), Infinity);
    assert.ok(Number.isNaN(sum(of([Infinity, -Infinity])).item()));
    assert.is(logsumexp(of([-Infinity, -Infinity])).item(), -Infinity);
    assert.is(logsumexp(of([Infinity, 0])).item(), Infinity);
    assert.ok(Number.isNaN(matmul(of([Infinity, 0]), of([0, 1])).item()));
    assert.equal(values(softmax(of([-Infinity, 0]))), Float64Array.of(0, 1));
    const x = tensor([-Infinity, -Infinity], { device, requiresGrad: true });
    logsumexp(x).backward();
    assert.equal(values(x.grad as Tensor), Float64Array.of(0, 0));
  }),
);

onEach(
  test,
  "reductions over nothing",
  leakFree((device) => {
    assert.is(sum(ops.zeros([0], { device })).item(), 0);
    assert.ok(Number.isNaN(ops.mean(ops.zeros([0], { device })).item()));
    assert.is(logsumexp(ops.zeros([0], { device })).item(), -Infinity);
    assert.equal(values(sum(ops.zeros([0, 3], { device }), 0)), Float64Array.of(0, 0, 0));
  }),
);

onEach(
  test,
  "integers wrap",
  leakFree((device) => {
    const int32 = (v: number) => tensor([v], { dtype: "int32", device });
    const top = 2 ** 31 - 1;
    assert.is(ops.add(int32(top), int32(1)).item(), -(2 ** 31));
    assert.is(ops.sub(int32(-(2 ** 31)), int32(1)).item(), top);
    assert.is(ops.mul(int32(65537), int32(65537)).item(), Math.imul(65537, 65537));
    assert.is(ops.neg(int32(-(2 ** 31))).item(), -(2 ** 31));
    assert.is(ops.abs(int32(-(2 ** 31))).item(), -(2 ** 31));
    const uint8 = (v: number) => tensor([v], { dtype: "uint8", device });
    assert.is(ops.add(uint8(255), uint8(2)).item(), 1);
    assert.is(ops.sub(uint8(1), uint8(2)).item(), 255);
    assert.is(ops.mul(uint8(16), uint8(17)).item(), 16);
    const int64 = (v: bigint) => tensor(BigInt64Array.of(v), { device });
    const largest = 2n ** 63n - 1n;
    assert.equal(ops.add(int64(largest), int64(1n)).toTypedArray(), BigInt64Array.of(-(2n ** 63n)));
    assert.equal(ops.mul(int64(largest), int64(2n)).toTypedArray(), BigInt64Array.of(-2n));
    assert.equal(
      sum(tensor(BigInt64Array.of(largest, 1n), { device })).toTypedArray(),
      BigInt64Array.of(-(2n ** 63n)),
    );
    assert.is(sum(tensor(new Int32Array(3).fill(top), { device })).item(), 3 * top);
  }),
);

onEach(
  test,
  "int64 keeps all of its bits on the way through",
  leakFree((device) => {
    const data = BigInt64Array.of(2n ** 53n + 1n, -(2n ** 62n) - 3n, 2n ** 63n - 1n);
    const x = tensor(data, { device });
    assert.equal(x.toTypedArray(), data);
    assert.equal(ops.flip(ops.flip(x)).toTypedArray(), data);
    assert.equal(ops.concat([x, x]).toTypedArray(), BigInt64Array.of(...data, ...data));
    assert.equal(max(x).toTypedArray(), BigInt64Array.of(2n ** 63n - 1n));
  }),
);

onEach(
  test,
  "casts saturate, drop fractions, and round to bfloat16 once",
  leakFree((device) => {
    const x = tensor([nan, Infinity, -Infinity, 3e9, -3e9, -1.9, 1.9, 300, -0.5], {
      dtype: "float64",
      device,
    });
    assert.equal(Array.from(values(ops.cast(x, "int32"))), [
      0,
      2 ** 31 - 1,
      -(2 ** 31),
      2 ** 31 - 1,
      -(2 ** 31),
      -1,
      1,
      300,
      0,
    ]);
    assert.equal(Array.from(values(ops.cast(x, "uint8"))), [0, 255, 0, 255, 0, 0, 1, 255, 0]);
    assert.equal(Array.from(values(ops.cast(x, "bool"))), [1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert.equal(
      ops.cast(x, "int64").toTypedArray(),
      BigInt64Array.of(0n, 2n ** 63n - 1n, -(2n ** 63n), 3000000000n, -3000000000n, -1n, 1n, 300n, 0n),
    );
    // 1 + 2^-8 lies between two bfloat16 values, and a little more must not be lost in float32 on the way
    const ties = tensor([1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -40, nan, Infinity, 3.4e38], {
      dtype: "float64",
      device,
    });
    const rounded = values(ops.cast(ties, "bfloat16"));
    assert.equal(Array.from(rounded.slice(0, 3)), [1, 1 + 2 ** -6, 1 + 2 ** -7]);
    assert.ok(Number.isNaN(rounded[3]));
    assert.equal(Array.from(rounded.slice(4)), [Infinity, Infinity]);
  }),
);

onEach(
  test,
  "scatterAdd: equal indices add up",
  leakFree((device) => {
    const index = tensor([1, 1, 1], { dtype: "int64", device });
    const sums = ops.scatterAdd(ops.zeros([2], { device }), 0, index, tensor([1, 2, 4], { device }));
    assert.equal(values(sums), Float64Array.of(0, 7));
  }),
);

/** dM[q] = sum over the pixels p of q of a[p] . (g[order[fine p]] - g[order[coarse p]]). */
function choiceGradient(
  a: Float64Array,
  g: Float64Array,
  { order, fine, coarse }: Record<"order" | "fine" | "coarse", number[]>,
  channels: number,
): number[] {
  const tokens = order.length;
  const out = [0, 0, 0, 0];
  for (let p = 0; p < tokens; p++)
    for (let c = 0; c < channels; c++)
      out[Math.floor((4 * p) / tokens)] +=
        a[p * channels + c] * (g[order[fine[p]] * channels + c] - g[order[coarse[p]] * channels + c]);
  return out;
}

onEach(
  test,
  "quadArrange and quadRestore give the choice the gradient of moving pixels",
  leakFree((device) => {
    const limits = { float64: 1e-12, float32: 1e-5, ...(device === "cuda" && { bfloat16: 1e-5 }) };
    for (const [tokens, channels] of [
      [16, 5],
      [64, 33],
      [196, 96],
      [784, 130],
    ]) {
      const random = new Random(`quad ${tokens} ${channels}`);
      const [order, fine, coarse] = [0, 1, 2].map(() => random.permutation(tokens));
      const quadrant = Array.from({ length: tokens }, (_, p) => Math.floor((4 * p) / tokens));
      const int = (data: number[], shape: number[]) => tensor(Int32Array.from(data), shape, { device });
      const places = {
        order: int(order, [1, tokens]),
        fine: int(fine, [tokens]),
        coarse: int(coarse, [tokens]),
        quadrant: int(quadrant, [tokens]),
      };
      const data = () => Float32Array.from({ length: tokens * channels }, () => random.between(-1, 1));
      for (const [dtype, limit] of Object.entries(limits) as [DType, number][])
        for (const op of [quadArrange, quadRestore]) {
          const [x, dy] = [data(), data()].map((numbers) =>
            ops.cast(tensor(numbers, [1, tokens, channels], { device }), dtype),
          );
          x.requiresGrad = true;
          const choice = tensor([0, 1, 0, 0], [1, 4], {
            dtype: dtype === "bfloat16" ? "float32" : dtype,
            device,
            requiresGrad: true,
          });
          op(x, choice, places).backward(dy);
          assert.equal(values(x.grad as Tensor), values(dy));
          const pair = [values(x), values(dy)];
          const [moved, moving] = op === quadArrange ? pair : pair.reverse();
          const want = choiceGradient(moved, moving, { order, fine, coarse }, channels);
          const what = `${op === quadArrange ? "quadArrange" : "quadRestore"} of ${tokens} x ${channels}, ${dtype}`;
          expectNormwise(what, values(choice.grad as Tensor), want, limit);
        }
    }
  }),
);

onEach(
  test,
  "a result too large for the caches has the bits of its parts",
  leakFree((device) => {
    const [rows, k, columns] = [44_000, 3, 48];
    const random = new Random("large product");
    const data = (n: number) => Float32Array.from({ length: n }, () => random.between(-1, 1));
    const x = tensor(data(rows * k), [rows, k], { device });
    const [weight, bias] = [
      tensor(data(columns * k), [columns, k], { device }),
      tensor(data(columns), { device }),
    ];
    const whole = ops.linear(x, weight, bias);
    const parts = ops
      .split(x, [11_000, 11_000, 11_000, 11_000])
      .map((part) => ops.linear(part, weight, bias));
    assert.equal(Number(values(max(ops.abs(ops.sub(whole, ops.concat(parts)))))[0]), 0);
  }),
);

test.run();
