/** Who frees a tensor, and when: scopes, dispose, the byte budget. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  AdamW,
  add,
  DisposedError,
  exp,
  linear,
  matmul,
  mean,
  memory,
  mul,
  nn,
  OutOfMemoryError,
  ones,
  randn,
  reshape,
  scope,
  sub,
  sum,
  type Tensor,
  tensor,
  zeros,
} from "../../lib/index.js";
import { values } from "../helpers/compare.js";
import { leakFree, thrown } from "../helpers/leaks.js";

const test = suite("lifetime");
const tick = () => new Promise<void>((resolve) => setImmediate(resolve));

test(
  "a scope frees what it does not return",
  leakFree(() => {
    const made: Tensor[] = [];
    const kept = scope(() => {
      made.push(ones([2]), ones([3]));
      return made[1];
    });
    assert.equal(
      made.map((t) => t.disposed),
      [true, false],
    );
    assert.equal(values(kept), Float64Array.of(1, 1, 1));
  }),
);

test(
  "a scope finds what it returns in arrays, objects, Maps and Sets, also in cycles",
  leakFree(() => {
    interface Cyclic {
      t: Tensor;
      self?: Cyclic;
    }
    const result = scope(() => {
      const cyclic: Cyclic = { t: ones([1]) };
      cyclic.self = cyclic;
      return {
        list: [ones([1]), [ones([1])]],
        map: new Map([["k", ones([1])]]),
        set: new Set([ones([1])]),
        cyclic,
        lost: new Date(),
      };
    });
    const all = [
      result.list[0] as Tensor,
      (result.list[1] as Tensor[])[0],
      result.map.get("k") as Tensor,
      ...result.set,
      result.cyclic.t,
    ];
    assert.is(all.length, 5);
    for (const t of all) assert.not(t.disposed);
  }),
);

test(
  "a scope frees when it throws",
  leakFree(() => {
    let inner: Tensor | undefined;
    thrown(
      () =>
        scope(() => {
          inner = ones([2]);
          throw new RangeError("x");
        }),
      RangeError,
    );
    assert.ok(inner?.disposed);
  }),
);

test(
  "nested scopes: what the inner one returns belongs to the outer one",
  leakFree(() => {
    const seen: Tensor[] = [];
    scope(() => {
      const a = scope(() => {
        const b = scope(() => ones([1]));
        seen.push(b);
        return b;
      });
      assert.not(a.disposed);
      assert.is(a, seen[0]);
    });
    assert.ok(seen[0].disposed);
  }),
);

test("keep takes a tensor out of every scope", () => {
  const t = scope(() => scope(() => ({ hidden: () => ones([1]).keep() }).hidden()));
  assert.not(t.disposed);
  const before = memory.liveTensors;
  t.dispose();
  assert.is(memory.liveTensors, before - 1);
});

test(
  "an outer tensor returned by an inner scope stays with its owner",
  leakFree(() => {
    const outer = ones([1]);
    scope(() => outer);
    scope(() => {
      scope(() => outer);
    });
    assert.not(outer.disposed);
  }),
);

test("an async scope lasts until its promise settles", async () => {
  const made: Tensor[] = [];
  const kept = await scope(async () => {
    made.push(ones([1]));
    await tick();
    made.push(ones([1]), ones([2]));
    assert.not(made[0].disposed);
    await tick();
    return made[2];
  });
  assert.equal(
    made.map((t) => t.disposed),
    [true, true, false],
  );
  kept.dispose();
});

test("an async scope frees when it rejects", async () => {
  const made: Tensor[] = [];
  let message = "";
  try {
    await scope(async () => {
      made.push(ones([1]));
      await tick();
      made.push(ones([1]));
      throw new Error("late");
    });
  } catch (error) {
    message = (error as Error).message;
  }
  assert.is(message, "late");
  assert.ok(made.every((t) => t.disposed));
});

test("concurrent async scopes do not free each other's tensors", async () => {
  const worker = async (steps: number): Promise<number> =>
    scope(async () => {
      let total = ones([4]);
      for (let k = 0; k < steps; k++) {
        await tick();
        total = scope(() => add(total, mul(ones([4]), 2)));
      }
      await tick();
      return sum(total).item();
    });
  const results = await Promise.all([3, 7, 1, 5, 2].map(worker));
  assert.equal(
    results,
    [3, 7, 1, 5, 2].map((steps) => 4 + 8 * steps),
  );
});

test("a scope that ends before an inner async one hands it nothing to lose", async () => {
  let late: Promise<Tensor> | undefined;
  scope(() => {
    late = scope(async () => {
      await tick();
      return ones([1]);
    });
  });
  const t = (await late) as Tensor;
  assert.not(t.disposed);
  assert.is(t.item(), 1);
  t.dispose();
});

test(
  "use after dispose names the op",
  leakFree(() => {
    const t = ones([2, 2]);
    t.dispose();
    assert.ok(t.disposed);
    for (const [op, call] of [
      ["add", () => add(t, 1)],
      ["exp", () => exp(t)],
      ["matmul", () => matmul(t, t)],
      ["reshape", () => reshape(t, [4])],
      ["toArray", () => t.toArray()],
      ["toTypedArray", () => t.toTypedArray()],
      ["detach", () => t.detach()],
    ] as const) {
      const error = thrown(call, DisposedError, op);
      assert.is(error.op, op);
      assert.match(error.message, new RegExp(`^${op}: `));
    }
    assert.equal([...t.shape], [2, 2]);
    assert.match(String(t), /disposed/);
  }),
);

test(
  "a second dispose does nothing, also after the handle was used again",
  leakFree(() => {
    const t = ones([2]);
    t.dispose();
    const next = ones([2]);
    t.dispose();
    assert.equal(values(next), Float64Array.of(1, 1));
    {
      using temporary = ones([2]);
      assert.not(temporary.disposed);
    }
  }),
);

test(
  "views outlive their base, and the storage goes with the last of them",
  leakFree(() => {
    const before = memory.liveBytes;
    const base = tensor([1, 2, 3, 4]);
    const bytes = memory.liveBytes;
    const [view, fixed] = [reshape(base, [2, 2]), base.detach()];
    assert.is(memory.liveBytes, bytes);
    base.dispose();
    assert.equal(view.toArray(), [
      [1, 2],
      [3, 4],
    ]);
    view.dispose();
    assert.is(memory.liveBytes, bytes);
    assert.equal(values(fixed), Float64Array.of(1, 2, 3, 4));
    fixed.dispose();
    assert.is(memory.liveBytes, before);
  }),
);

test(
  "dispose frees the gradient too",
  leakFree(() => {
    const before = memory.liveTensors;
    const x = ones([3], { requiresGrad: true });
    sum(mul(x, x)).backward();
    const g = x.grad as Tensor;
    x.dispose();
    assert.ok(g.disposed);
    assert.ok(memory.liveTensors <= before + 2);
  }),
);

test(
  "inputs that backward needs may be disposed before it",
  leakFree(() => {
    const [x, w] = [ones([2, 3], { requiresGrad: true }), ones([3, 2], { requiresGrad: true })];
    const hidden = exp(matmul(x, w));
    const loss = sum(hidden);
    hidden.dispose();
    loss.backward();
    assert.ok(values(x.grad as Tensor).every((v) => Math.abs(v - 2 * Math.exp(3)) < 1e-4));
  }),
);

test(
  "a leaf disposed before backward is named, or gets no gradient; nothing else breaks",
  leakFree(() => {
    const [x, w] = [ones([2], { requiresGrad: true }), ones([2], { requiresGrad: true })];
    const y = sum(mul(x, w));
    x.dispose();
    y.backward();
    assert.equal(values(w.grad as Tensor), Float64Array.of(1, 1));
  }),
);

test("past the budget an op throws, names the holders, and the next smaller one succeeds", () => {
  scope(() => {
    const { budget } = memory;
    const held = zeros([1 << 18]);
    const before = memory.liveTensors;
    try {
      memory.setBudget(memory.liveBytes + (1 << 20));
      // one element more than there is room for
      const { message } = thrown(() => randn([(1 << 18) + 1]), OutOfMemoryError);
      assert.match(message, /1048580.*largest holders.*fill/);
      const half = zeros([1 << 17]);
      assert.is(sum(half).item(), 0);
      thrown(() => mul(half, half).add(ones([1 << 17])), OutOfMemoryError);
      half.dispose();
    } finally {
      memory.setBudget(budget);
    }
    assert.ok(memory.liveTensors >= before);
    assert.is(sum(held).item(), 0);
  });
});

test(
  "an op that runs out of memory leaves nothing behind",
  leakFree(() => {
    const { budget } = memory;
    const x = ones([1 << 16], { requiresGrad: true });
    const before = [memory.liveTensors, memory.liveBytes];
    try {
      // at every allocation of the step in turn: 256 KB a tensor
      for (let room = 0; room < 8; room++) {
        memory.setBudget(memory.liveBytes + room * (1 << 18));
        try {
          scope(() => sum(mul(exp(x), exp(mul(x, 0.5)))).backward());
        } catch (error) {
          assert.instance(error, OutOfMemoryError);
        }
        x.grad?.dispose();
        x.grad = null;
        assert.equal([memory.liveTensors, memory.liveBytes], before, `room for ${room} tensors`);
      }
    } finally {
      memory.setBudget(budget);
    }
  }),
);

test(
  "counters: bytes by dtype, the peak, and the cache",
  leakFree(() => {
    memory.emptyCache();
    const before = memory.liveBytes;
    memory.resetPeak();
    assert.is(memory.peakBytes, before);
    scope(() => {
      zeros([1000]);
      zeros([1000], { dtype: "float64" });
      zeros([1000], { dtype: "uint8" });
      assert.is(memory.liveBytes - before, 13_000);
    });
    assert.is(memory.liveBytes, before);
    assert.is(memory.peakBytes - before, 13_000);
    memory.emptyCache();
    assert.is(memory.cachedBytes, 0);
  }),
);

test("live bytes are flat over 1,000 training steps", () => {
  scope(() => {
    const model = scope(
      () => new nn.Sequential(new nn.Linear(4, 8), new nn.GELU(), new nn.LayerNorm(8), new nn.Linear(8, 2)),
    );
    const optimizer = new AdamW(model.parameters(), { lr: 1e-2 });
    const [x, target] = [randn([5, 4]), randn([5, 2])];
    const step = () =>
      scope(() => {
        const error = sub(model.forward(x), target);
        const loss = mean(mul(error, error));
        loss.backward();
        optimizer.step();
        optimizer.zeroGrad();
        return loss.item();
      });
    const first = step();
    const { liveTensors, liveBytes } = memory();
    let last = first;
    for (let k = 0; k < 1000; k++) last = step();
    assert.is(memory.liveTensors, liveTensors);
    assert.is(memory.liveBytes, liveBytes);
    assert.ok(last < 0.5 * first, `the loss fell from ${first} to ${last}`);
    model.dispose();
    optimizer.dispose();
  });
});

test("tensors that nobody disposes are collected once the event loop turns", async () => {
  const { gc } = globalThis as { gc?: () => void };
  if (!gc) return;
  const before = memory.liveTensors;
  (() => {
    for (let k = 0; k < 100; k++) ones([10]);
  })();
  for (let k = 0; k < 10 && memory.liveTensors > before; k++) {
    gc();
    await tick();
  }
  assert.ok(memory.liveTensors <= before);
});

test(
  "a tensor of a layer survives the scope it was made in",
  leakFree(() => {
    const layer = scope(() => new nn.Linear(3, 2));
    const y = linear(ones([1, 3]), layer.weight, layer.bias);
    assert.equal([...y.shape], [1, 2]);
    layer.dispose();
  }),
);

test.run();
