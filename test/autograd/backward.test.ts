/** The tape: what gradients flow where, what is kept for them, and when it is freed. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Tensor } from "../../lib/index.js";
import * as qm from "../../lib/index.js";
import { isShared } from "../../lib/tensor/tensor.js";
import { expectNormwise, values } from "../helpers/compare.js";
import { onEach } from "../helpers/devices.js";
import { leakFree, thrown } from "../helpers/leaks.js";
import { Random } from "../helpers/random.js";

const { ArgumentError, AutogradError, enableGrad, grad, memory, noGrad, scope, ShapeError } = qm;
const {
  add,
  dropPath,
  exp,
  layerNorm,
  matmul,
  mul,
  neg,
  ones,
  relu,
  reshape,
  slice,
  softmax,
  split,
  sub,
  sum,
  tensor,
  zeros,
} = qm;
const test = suite("backward");
const leaf = (data: number[] | number[][]): Tensor => tensor(data, { dtype: "float64", requiresGrad: true });
const gradOf = (t: Tensor): number[] => Array.from(values(t.grad as Tensor));

test(
  "a tensor used several times gets the sum of its gradients",
  leakFree(() => {
    const x = leaf([2, 3]);
    sum(add(mul(x, x), mul(x, 5))).backward();
    assert.equal(gradOf(x), [9, 11]);
  }),
);

test(
  "a diamond is walked once: each op sees its whole gradient",
  leakFree(() => {
    const x = leaf([1.5]);
    let calls = 0;
    const counting = qm.defineOp({
      name: "counting",
      infer: ([t]) => ({ shape: t.shape, dtype: t.dtype }),
      forward: ([t]) => mul(t.detach(), 2),
      backward: (dy) => {
        calls++;
        return [mul(dy, 2)];
      },
    });
    const middle = counting([x]);
    const left = mul(middle, 3);
    const right = mul(middle, middle);
    sum(add(left, right)).backward();
    assert.is(calls, 1);
    assert.equal(gradOf(x), [2 * (3 + 2 * 3)]);
  }),
);

test(
  "the same tensor as both operands",
  leakFree(() => {
    const x = leaf([3]);
    sub(x, x).backward();
    assert.equal(gradOf(x), [0]);
    const y = leaf([
      [1, 2],
      [3, 4],
    ]);
    sum(matmul(y, y)).backward();
    assert.equal(gradOf(y), [7, 11, 9, 13]);
  }),
);

test(
  "broadcasting is undone by sums",
  leakFree(() => {
    const [row, column, scalar] = [
      leaf([1, 2, 3]),
      leaf([[4], [5]]),
      tensor(6, { dtype: "float64", requiresGrad: true }),
    ];
    sum(mul(mul(row, column), scalar)).backward();
    assert.equal(gradOf(row), [54, 54, 54]);
    assert.equal(gradOf(column), [36, 36]);
    assert.equal(gradOf(scalar), [54]);
    assert.equal([...(column.grad as Tensor).shape], [2, 1]);
    assert.equal([...(scalar.grad as Tensor).shape], []);
  }),
);

test(
  "gradients accumulate over backwards",
  leakFree(() => {
    const x = leaf([1, 2]);
    for (let k = 1; k <= 3; k++) {
      sum(mul(x, k)).backward();
      assert.equal(gradOf(x), [(k * (k + 1)) / 2, (k * (k + 1)) / 2]);
    }
  }),
);

test(
  "a gradient of one leaf is no other's: none shares storage with another",
  leakFree(() => {
    const [a, b] = [leaf([1]), leaf([2])];
    add(a, b).backward();
    mul(a, 10).backward();
    assert.equal([gradOf(a), gradOf(b)], [[11], [1]]);
    const [c, d] = [leaf([1]), leaf([2])];
    const dy = tensor([3], { dtype: "float64" });
    add(reshape(c, [1]), d).backward(dy);
    const e = leaf([3]);
    e.backward(dy);
    for (const t of [c, d, e]) assert.not(isShared(t.grad as Tensor));
    (c.grad as Tensor).dispose();
    assert.equal(gradOf(d), [3]);
    assert.equal(Array.from(values(dy)), [3]);
  }),
);

test(
  "backward of a leaf is its own gradient",
  leakFree(() => {
    const x = leaf([4]);
    x.backward();
    assert.equal(gradOf(x), [1]);
  }),
);

test(
  "a second backward through a graph is refused, unless the first retained it",
  leakFree(() => {
    const x = leaf([2]);
    const y = mul(x, x);
    y.backward();
    const { message } = thrown(() => y.backward(), AutogradError);
    assert.match(message, /retainGraph/);
    assert.equal(gradOf(x), [4]);
    const z = mul(x, x);
    z.backward(undefined, { retainGraph: true });
    z.backward(undefined, { retainGraph: true });
    z.backward();
    assert.equal(gradOf(x), [16]);
    thrown(() => z.backward(), AutogradError);
  }),
);

test(
  "two roots may share a part of the graph if the first backward retains it",
  leakFree(() => {
    const x = leaf([3]);
    const shared = exp(x);
    const [a, b] = [mul(shared, 2), mul(shared, 3)];
    a.backward(undefined, { retainGraph: true });
    b.backward();
    assert.ok(Math.abs(gradOf(x)[0] - 5 * Math.exp(3)) < 1e-12);
  }),
);

test(
  "backward refuses what has no gradient",
  leakFree(() => {
    thrown(() => ones([1]).backward(), AutogradError);
    thrown(() => mul(leaf([1, 2]), 2).backward(), AutogradError);
    thrown(() => mul(leaf([1, 2]), 2).backward(ones([3], { dtype: "float64" })), ShapeError);
    thrown(() => mul(leaf([1, 2]), 2).backward(ones([2])), ShapeError);
    thrown(() => mul(leaf([1]), 2).backward(1 as never), ArgumentError);
    thrown(() => mul(leaf([1]), 2).backward(undefined, { retain: true } as never), ArgumentError);
    thrown(() => qm.eq(leaf([1]), 1).backward(), AutogradError);
    thrown(() => zeros([2], { dtype: "int32", requiresGrad: true }), AutogradError);
  }),
);

test(
  "noGrad records nothing, enableGrad inside of it does",
  leakFree(() => {
    const x = leaf([1]);
    const y = noGrad(() => mul(x, 2));
    assert.is(y.requiresGrad, false);
    assert.is(y.node, null);
    assert.ok(noGrad(() => enableGrad(() => mul(x, 2))).requiresGrad);
    thrown(
      () =>
        noGrad(() => {
          throw new RangeError("inner");
        }),
      RangeError,
    );
    assert.ok(mul(x, 2).requiresGrad);
  }),
);

test("noGrad lasts across await and does not leak into what runs beside it", async () => {
  const x = leaf([1]);
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const inside = noGrad(async () => {
    await gate;
    return mul(x, 2);
  });
  const beside = mul(x, 3);
  release();
  const result = await inside;
  assert.is(result.requiresGrad, false);
  assert.ok(beside.requiresGrad);
  for (const t of [x, result, beside]) t.dispose();
});

test(
  "detach stops the gradient and shares the storage",
  leakFree(() => {
    const x = leaf([2, 3]);
    const bytes = memory.liveBytes;
    const fixed = x.detach();
    assert.is(memory.liveBytes, bytes);
    assert.is(fixed.requiresGrad, false);
    sum(mul(x, fixed)).backward();
    assert.equal(gradOf(x), [2, 3]);
  }),
);

test(
  "inputs that need no gradient get none",
  leakFree(() => {
    const [x, c] = [leaf([2]), tensor([5], { dtype: "float64" })];
    mul(x, c).backward();
    assert.is(c.grad, null);
    assert.equal(gradOf(x), [5]);
  }),
);

test(
  "grad gives gradients of leaves and of results in between, and touches nobody's grad",
  leakFree(() => {
    const [x, other] = [leaf([3]), leaf([1])];
    const middle = mul(x, x);
    const y = mul(middle, 2);
    const [dx, dMiddle, dOther] = grad(y, [x, middle, other]);
    assert.equal(Array.from(values(dx as Tensor)), [12]);
    assert.equal(Array.from(values(dMiddle as Tensor)), [2]);
    assert.is(dOther, null);
    assert.is(x.grad, null);
  }),
);

test(
  "grad of a tensor by itself, and of one tensor named twice",
  leakFree(() => {
    const x = leaf([3]);
    const [own] = grad(x, [x]);
    assert.equal(Array.from(values(own as Tensor)), [1]);
    const y = mul(x, 2);
    const [a, b] = grad(y, [y, x]);
    assert.equal(
      [a, b].map((g) => Array.from(values(g as Tensor))),
      [[1], [2]],
    );
  }),
);

test(
  "grad refuses inputs without a gradient and what are no tensors",
  leakFree(() => {
    const y = mul(leaf([1]), 2);
    thrown(() => grad(y, [ones([1])]), AutogradError);
    thrown(() => grad(y, 3 as never), ArgumentError);
    thrown(() => grad(y, [3 as never]), ArgumentError);
    thrown(() => grad(3 as never, []), ArgumentError);
    thrown(() => grad(y, [], { retain: true } as never), ArgumentError);
  }),
);

test(
  "what grad returns belongs to the scope around, as every tensor made in it",
  leakFree(() => {
    const x = leaf([3]);
    const before = memory.liveTensors;
    scope(() => {
      grad(mul(x, x), [x]);
    });
    assert.is(memory.liveTensors, before);
  }),
);

test("backward frees what the ops saved", () => {
  scope(() => {
    const x = leaf([1, 2, 3]);
    const before = memory.liveTensors;
    const y = scope(() => sum(exp(mul(softmax(x), x))));
    assert.ok(memory.liveTensors > before + 1, "the tape holds tensors for backward");
    y.backward();
    // y, and the gradient of x
    assert.is(memory.liveTensors, before + 2);
  });
});

test(
  "a graph that nobody can reach any more frees what it saved",
  leakFree(() => {
    const x = leaf([1, 2, 3]);
    const before = memory.liveTensors;
    scope(() => {
      const y = exp(mul(x, x));
      sum(relu(y));
    });
    assert.is(memory.liveTensors, before);
  }),
);

test(
  "a long chain is walked and freed without recursion",
  leakFree(() => {
    const x = leaf([1]);
    const y = scope(() => {
      let t: Tensor = x;
      for (let k = 0; k < 20_000; k++) t = neg(t);
      return t;
    });
    y.backward();
    assert.equal(gradOf(x), [1]);
    scope(() => {
      let t: Tensor = x;
      for (let k = 0; k < 20_000; k++) t = neg(t);
    });
  }),
);

test(
  "outputs that nobody uses pass no gradient",
  leakFree(() => {
    const x = leaf([1, 2, 3, 4]);
    const [, second] = split(x, 2);
    sum(second).backward();
    assert.equal(gradOf(x), [0, 0, 1, 1]);
  }),
);

test(
  "an error in a backward rule leaves no tensors behind",
  leakFree(() => {
    const failing = qm.defineOp({
      name: "failing",
      infer: ([t]) => ({ shape: t.shape, dtype: t.dtype }),
      forward: ([t]) => mul(t.detach(), 1),
      backward: () => {
        throw new RangeError("rule");
      },
    });
    const x = leaf([1, 2]);
    scope(() => {
      const y = sum(mul(failing([mul(x, 2)]), 3));
      thrown(() => y.backward(), RangeError);
    });
    assert.is(x.grad, null);
  }),
);

test(
  "a rule whose gradient does not fit its input is refused",
  leakFree(() => {
    const wrong = qm.defineOp({
      name: "wrong",
      infer: ([t]) => ({ shape: t.shape, dtype: t.dtype }),
      forward: ([t]) => mul(t.detach(), 1),
      backward: (dy) => [slice(dy, 0, 0, 2)],
    });
    const x = leaf([1, 2, 3]);
    thrown(() => sum(wrong([x])).backward(), ShapeError);
  }),
);

test(
  "straight-through: the value forward, the surrogate's gradient backward",
  leakFree(() => {
    const logits = leaf([0.3, 1.2]);
    const hard = tensor([0, 1], { dtype: "float64" });
    const y = qm.straightThrough(hard, mul(logits, 3));
    assert.equal(Array.from(values(y)), [0, 1]);
    const dy = tensor([5, 7], { dtype: "float64" });
    y.backward(dy);
    assert.equal(gradOf(logits), [15, 21]);
  }),
);

test(
  "gumbelSoftmax: hard gives the gradient of soft",
  leakFree(() => {
    const noise = tensor([0.1, 0.5, -0.2], { dtype: "float64" });
    const dy = tensor([1, 2, 4], { dtype: "float64" });
    const [soft, hard] = [false, true].map((flag) => {
      const logits = leaf([0.3, 0.2, 0.1]);
      qm.gumbelSoftmax(logits, { hard: flag, noise, tau: 0.7 }).backward(dy);
      return gradOf(logits);
    });
    assert.equal(hard, soft);
  }),
);

// widths for each way in which the kernels walk a row
for (const channels of [1, 48, 130, 3001])
  onEach(
    test,
    `a layer norm of ${channels} channels takes along what else has come to its input`,
    (device) =>
      void leakFree(() => {
        const random = new Random(channels);
        const draw = (shape: number[]) =>
          tensor(
            Float64Array.from({ length: shape.reduce((a, b) => a * b) }, () => random.between(-1, 1)),
            shape,
            { device, requiresGrad: true },
          );
        const inputs = [draw([3, channels]), draw([channels]), draw([channels])];
        const [x, weight, bias] = inputs;
        // three uses of what `h` gives: gradients come before the norm's, with it, and after it
        const gradients = (h: () => Tensor) => {
          const early = exp(h());
          const y = add(mul(early, layerNorm(h(), weight, bias)), mul(h(), 3));
          return grad(sum(mul(y, y)), inputs).map((t) => values(t as Tensor));
        };
        const apart = gradients(() => mul(x, 1.5));
        const shared = mul(x, 1.5);
        gradients(() => shared).forEach((got, k) => {
          expectNormwise(`gradient ${k}`, got, apart[k], 1e-13);
        });
      })(),
  );

test(
  "dropped paths get no gradient",
  leakFree(() => {
    const x = ones([64, 3], { dtype: "float64", requiresGrad: true });
    const y = dropPath(x, 0.5);
    sum(y).backward();
    assert.equal(values(x.grad as Tensor), values(y));
  }),
);

test.run();
