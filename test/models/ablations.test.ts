/** Partitions other than the paper's: against a masked form in float64, by central differences, and in training. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  AdamW,
  adaptiveAvgPool2d,
  add,
  ConfigError,
  createQuadMamba,
  crossEntropy,
  gradcheck,
  indexSelect,
  manualSeed,
  mul,
  noGrad,
  type QuadMambaConfig,
  randGumbel,
  randn,
  reshape,
  scope,
  sub,
  sum,
  type Tensor,
  tensor,
} from "../../lib/index.js";
import {
  bothWays,
  inverse,
  parents,
  quadPartition,
  type Tree,
  windowShift,
  windowsAcross,
} from "../../lib/models/quadmamba/partition.js";
import { QuadScan, type QuadScanOptions } from "../../lib/models/quadmamba/quad_scan.js";
import { ScorePredictor } from "../../lib/models/quadmamba/score_predictor.js";
import { SS2D } from "../../lib/models/quadmamba/ss2d.js";
import { chooseWindows, within } from "../../lib/models/quadmamba/window_choice.js";
import { onEach } from "../helpers/devices.js";
import { leakFree, thrown } from "../helpers/leaks.js";

type Keys = Partial<QuadMambaConfig>;

const ablations = suite("ablations");

const TINY = {
  dims: 8,
  depths: [2, 1, 1, 1] as [number, number, number, number],
  inChannels: 1,
  numClasses: 3,
};

/** What is tested of trees and modes: all that configurations allow, thinned out. */
const KEYS: Keys[] = [
  { partition: "random" },
  { partition: "fixed" },
  { partition: "none" },
  { coarseGrid: 1 },
  { coarseGrid: 4 },
  { topK: 2 },
  { topK: 3, shiftDirections: 1 },
  { levels: 3 },
  { levels: 3, topK: 2, shiftDirections: 0 },
  { levels: 3, coarseGrid: 1 },
  { levels: 3, coarseGrid: 4, topK: 5 },
  { partition: "random", levels: 3, topK: 2 },
  { partition: "fixed", coarseGrid: 4, topK: 2 },
  { partition: "random", semantics: "released" },
  { partition: "fixed", semantics: "released" },
  { partition: "none", semantics: "released" },
  { shiftDirections: 0, semantics: "released" },
  { quadStages: [], fixedWindows: 3 },
  { quadStages: [2], fixedWindows: [4, 0, 2, 2] },
];

/**
 * Every token written to its places of all levels, weighted by what is divided, scanned in plain order and read back: the
 * masked form of the paper, whose gradients automatic differentiation finds without any rule for the partition.
 */
class MaskedScan extends SS2D {
  score_predictor: ScorePredictor;
  constructor(readonly options: QuadScanOptions) {
    super(2, options);
    this.score_predictor = new ScorePredictor(options.innerChannels, "paper");
  }

  protected core(x: Tensor, noise?: Tensor): Tensor {
    const [batch, height, width, channels] = x.shape;
    const table = (list: Int32Array, shape = [list.length]) => tensor(list, shape, { device: x.device });
    const { coarseGrid, levels: count, topK, shiftDirections, blockInStage, blockInModel } = this.options;
    const tree: Tree = { grid: coarseGrid, levels: count };
    const shift = windowShift(blockInStage, blockInModel, height, shiftDirections);
    const levels = quadPartition(height, width, shift, tree, "paper");
    const scores = this.score_predictor.forward(x, shift);
    const masks: Tensor[] = [];
    let from = 0;
    for (let level = 0; level < count - 1; level++) {
      const across = windowsAcross(tree, level);
      const logits = add(
        reshape(adaptiveAvgPool2d(scores, across), [batch, across * across]),
        noise!.slice(1, from, from + across * across),
      );
      from += across * across;
      masks.push(
        chooseWindows(
          level === 0 ? logits : within(logits, masks[level - 1], table(parents(tree, level))),
          topK,
        ),
      );
    }
    const weights = masks.map((mask, level) =>
      reshape(indexSelect(mask, 1, table(levels[level].window)), [batch, height * width, 1]),
    );
    const tokens = reshape(x, [batch, height * width, channels]);
    const written = (t: Tensor, level: number) => indexSelect(t, 1, table(inverse(levels[level].place)));
    const sequence = weights.reduce(
      (total, w, level) => {
        const moved = mul(tokens, w);
        return add(total, sub(written(moved, level + 1), written(moved, level)));
      },
      written(tokens, 0),
    );
    const plain = bothWays(Int32Array.from({ length: height * width }, (_, k) => k));
    const y = this.scan(sequence, table(plain, [1, 2, height * width]));
    const read = (level: number) => indexSelect(y, 1, table(levels[level].place));
    const restored = weights.reduce(
      (total, w, level) => add(total, mul(sub(read(level + 1), read(level)), w)),
      read(0),
    );
    return reshape(restored, x.shape);
  }
}

const SCAN: QuadScanOptions = {
  channels: 4,
  innerChannels: 8,
  stateSize: 2,
  dtRank: 1,
  convBias: true,
  semantics: "paper",
  partition: "learned",
  coarseGrid: 2,
  levels: 2,
  topK: 1,
  shiftDirections: 4,
  stage: 1,
  blockInStage: 1,
  blockInModel: 3,
};

for (const keys of [
  {},
  { coarseGrid: 1 },
  { coarseGrid: 4 },
  { topK: 2 },
  { topK: 3, shiftDirections: 0 },
  { levels: 3 },
  { levels: 3, topK: 2 },
  { levels: 3, coarseGrid: 1, topK: 1 },
  { levels: 2, coarseGrid: 4, topK: 7 },
] as Partial<QuadScanOptions>[])
  onEach(ablations, `${JSON.stringify(keys)}: values and gradients of the masked form`, (device) => {
    const compare = leakFree(() => {
      manualSeed(5);
      const options = { ...SCAN, ...keys };
      const scan = new QuadScan(options);
      const masked = new MaskedScan(options);
      scan.to("float64").to(device);
      masked.to("float64").to(device).loadStateDict(scan.stateDict());
      const [x, weights] = [0, 1].map(() => randn([2, 16, 24, 4], { dtype: "float64" }).to(device));
      const noise = randGumbel([2, scan.draws], { dtype: "float64" }).to(device);
      const [got, want] = [scan, masked].map((module) => {
        const inputs = [x, noise].map((t) => {
          const leaf = t.detach();
          leaf.requiresGrad = true;
          return leaf;
        });
        const y = module.forward(inputs[0], inputs[1]);
        sum(mul(y, weights)).backward();
        const gradients = [...module.namedParameters()].map(([name, t]): [string, Tensor] => [name, t.grad!]);
        return new Map([["y", y], ["x", inputs[0].grad!], ["noise", inputs[1].grad!], ...gradients]);
      });
      for (const [name, reference] of want) {
        const [a, b] = [got.get(name)!, reference].map((t) => t.toTypedArray() as Float64Array);
        const largest = b.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
        a.forEach((v, k) => {
          assert.ok(Math.abs(v - b[k]) <= 1e-9 * largest + 1e-14, `${name}[${k}]: ${v}, masked ${b[k]}`);
        });
        // one coarse window leaves nothing to choose
        if (name === "noise" && keys.coarseGrid !== 1) assert.ok(largest > 0);
      }
      scan.dispose();
      masked.dispose();
    });
    compare();
  });

ablations("chooseWindows takes the largest logits, one after the other, and never one twice", () =>
  scope(() => {
    const logits = tensor([0.1, 2, -1, 1.5, 0.3, 1.9], [1, 6], { dtype: "float64", requiresGrad: true });
    const chosen = chooseWindows(logits, 3);
    assert.equal(chosen.toArray(), [[0, 1, 0, 1, 0, 1]]);
    const value = [3, -2, 0.5, 4, 1, -1];
    sum(mul(chosen, tensor(value, { dtype: "float64" }))).backward();
    // the gradient of a sum of softmaxes over what is left: p_k (v_k - sum_j p_j v_j) of each
    const expected = new Array<number>(6).fill(0);
    const left = [0, 1, 2, 3, 4, 5];
    const raw = [0.1, 2, -1, 1.5, 0.3, 1.9];
    for (const winner of [1, 5, 3]) {
      const total = left.reduce((s, k) => s + Math.exp(raw[k]), 0);
      const mean = left.reduce((s, k) => s + (Math.exp(raw[k]) / total) * value[k], 0);
      for (const k of left) expected[k] += (Math.exp(raw[k]) / total) * (value[k] - mean);
      left.splice(left.indexOf(winner), 1);
    }
    (logits.grad!.toArray() as number[][])[0].forEach((g, k) => {
      assert.ok(Math.abs(g - expected[k]) < 1e-12, `${k}: ${g}, expected ${expected[k]}`);
    });
  }),
);

ablations("modes without a learned choice pass central differences, weights and input", () => {
  for (const keys of [
    { partition: "fixed" },
    { partition: "fixed", levels: 3, topK: 2 },
    { partition: "none" },
    { partition: "random", coarseGrid: 4 },
  ] as Partial<QuadScanOptions>[])
    scope(() => {
      manualSeed(2);
      const scan = new QuadScan({ ...SCAN, ...keys, channels: 2, innerChannels: 2, stateSize: 1 });
      scan.to("float64");
      const x = randn([1, 8, 8, 2], { dtype: "float64", requiresGrad: true });
      const noise = scan.draws > 0 ? randGumbel([1, scan.draws]) : undefined;
      const names = ["x_proj_weight", "dt_projs_weight", "A_logs", "Ds"] as const;
      const own = names.map((name) => scan[name]);
      const run = (input: Tensor, ...weights: Tensor[]): Tensor => {
        names.forEach((name, k) => {
          scan[name] = weights[k];
        });
        return sum(mul(scan.forward(input, noise), x.detach()));
      };
      assert.ok(gradcheck(run, [x, ...own], { rtol: 1e-5 }));
      run(x, ...own);
      scan.dispose();
    });
});

for (const keys of KEYS)
  onEach(ablations, `${JSON.stringify(keys)}: trains, evaluates, and repeats to the bit`, (device) => {
    for (const dtype of device === "cuda" ? (["float32", "bfloat16"] as const) : (["float32"] as const)) {
      const run = leakFree(() => {
        manualSeed(7);
        const model = createQuadMamba({ ...TINY, ...keys });
        model.to(device);
        const optimizer = new AdamW(model.parameters(), { lr: 3e-3 });
        const images = randn([4, 24, 40, 1]).to(device).cast(dtype); // stage 1: 6 x 10, stage 2: 3 x 5
        const labels = tensor([0, 1, 2, 0], { dtype: "int64" }).to(device);
        const losses = Array.from({ length: 10 }, () =>
          scope(() => {
            const loss = crossEntropy(model.forward(images), labels);
            loss.backward();
            for (const [name, t] of model.namedParameters()) assert.ok(t.grad, `${name} has no gradient`);
            optimizer.step();
            optimizer.zeroGrad();
            return loss.item();
          }),
        );
        assert.ok(losses[9] < 0.8 * losses[0], `losses ${losses[0]} to ${losses[9]}`);
        const logits = noGrad(() => model.eval().forward(images)).toArray();
        results.push(JSON.stringify([losses, logits]));
        model.dispose();
        optimizer.dispose();
      });
      const results: string[] = [];
      run();
      run();
      assert.is(results[0], results[1]);
    }
  });

/** What a model's blocks divide, over a batch in evaluation: for each block its levels' choices. */
function dividedBy(keys: Keys, batch: number): number[][][][] {
  return scope(() => {
    manualSeed(3);
    const model = createQuadMamba({ ...TINY, ...keys }).eval();
    const seen: number[][][][] = [];
    model.watchPartitions(({ divided }) => seen.push(divided.map((t) => t.toArray() as number[][])));
    noGrad(() => model.forward(randn([batch, 32, 32, 1])));
    model.dispose();
    assert.is(seen.length, keys.partition === "none" ? 0 : 3, "blocks seen");
    return seen;
  });
}

ablations("random: every window is divided equally often, in evaluation too", () => {
  for (const [keys, windows, share] of [
    [{ partition: "random" }, 4, 1 / 4],
    [{ partition: "random", topK: 3 }, 4, 3 / 4],
    [{ partition: "random", coarseGrid: 4 }, 16, 1 / 16],
  ] as [Keys, number, number][]) {
    const blocks = dividedBy(keys, 1000);
    const deviation = Math.sqrt(1000 * share * (1 - share));
    for (const [level] of blocks)
      for (let k = 0; k < windows; k++) {
        const times = level.reduce((total, row) => total + row[k], 0);
        assert.ok(Math.abs(times - 1000 * share) < 4.5 * deviation, `window ${k}: ${times} times`);
      }
    assert.not.equal(blocks[0], blocks[1]); // blocks draw for themselves
  }
});

ablations("fixed: always the first windows; none: no windows", () => {
  const fixed = dividedBy({ partition: "fixed", coarseGrid: 4, topK: 2, levels: 3 }, 2);
  const first = (windows: number[], count: number): number[] =>
    Array.from({ length: count }, (_, k) => (windows.includes(k) ? 1 : 0));
  for (const levels of fixed)
    assert.equal(
      levels,
      [first([0, 1], 16), first([0, 1], 64)].map((row) => [row, row]),
    );
  assert.equal(dividedBy({ partition: "none" }, 2), []);
});

ablations("a level divides topK of the quadrants of what is divided above it", () => {
  const of = parents({ grid: 2, levels: 3 }, 1);
  for (const levels of dividedBy({ levels: 3, topK: 2 }, 50))
    levels[0].forEach((above, sample) => {
      const below = levels[1][sample];
      assert.is(
        above.reduce((a, b) => a + b),
        2,
      );
      assert.is(
        below.reduce((a, b) => a + b),
        2,
      );
      below.forEach((chosen, k) => {
        if (chosen) assert.is(above[of[k]], 1);
      });
    });
});

ablations("noise takes the place of draws, and must fit what is drawn", () =>
  scope(() => {
    const model = createQuadMamba({ ...TINY, partition: "random", levels: 3 });
    const images = randn([1, 32, 32, 1]);
    const forced = Float32Array.from({ length: 20 }, (_, k) => (k === 2 || k === 4 + 8 ? 9 : 0));
    const seen: number[] = [];
    model.watchPartitions(({ divided }) =>
      seen.push(...divided.flatMap((t) => t.argmax(1).toArray() as number[])),
    );
    model.forward(images, { partitionNoise: [0, 1, 2].map(() => tensor(forced, [1, 20])) });
    assert.equal(seen, [2, 8, 2, 8, 2, 8]);
    thrown(
      () => model.forward(images, { partitionNoise: [0, 1, 2].map(() => tensor([0, 0, 0, 0], [1, 4])) }),
      Error,
    );
    const fixed = createQuadMamba({ ...TINY, partition: "fixed" });
    const error = thrown(
      () => fixed.forward(images, { partitionNoise: [tensor([0, 0, 0, 0], [1, 4])] }),
      Error,
    );
    assert.match(error.message, /0 tensors, one for each quad block that draws/);
    model.dispose();
    fixed.dispose();
  }),
);

ablations("configurations that contradict themselves are refused, and the key is named", () => {
  for (const [keys, message] of [
    [{ partition: "lerned" }, /partition is not valid.*learned, random, fixed or none/],
    [{ coarseGrid: 3 }, /coarseGrid is not valid.*1, 2 or 4/],
    [{ levels: 1 }, /levels is not valid.*2 or 3/],
    [{ topK: 4 }, /topK is not valid.*from 1 to 3 of the 2 x 2/],
    [{ topK: 2, coarseGrid: 1 }, /topK is not valid.*from 1 to 1/],
    [{ topK: 1.5 }, /topK/],
    [{ shiftDirections: 2 }, /shiftDirections is not valid.*0, 1 or 4/],
    [{ fixedWindows: -1, quadStages: [] }, /fixedWindows/],
    [{ fixedWindows: 14 }, /fixedWindows is not valid.*0 in stage 1/],
    [{ partition: "none", topK: 2 }, /topK is not valid.*partition none/],
    [{ semantics: "released", levels: 3 }, /levels is not valid.*semantics released/],
    [{ quadStages: [], partition: "random" }, /partition is not valid.*without quad blocks/],
    [{ fixedWindow: 14 }, /unknown key fixedWindow \(did you mean fixedWindows\?\)/],
  ] as [object, RegExp][])
    assert.match(
      thrown(() => createQuadMamba({ ...TINY, ...keys }), ConfigError, JSON.stringify(keys)).message,
      message,
    );
});

ablations.run();
