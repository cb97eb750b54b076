/** What the configuration says, and what follows from it: presets, schedule, groups, accumulation, checkpointing. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  ConfigError,
  createQuadMamba,
  crossEntropy,
  manualSeed,
  memory,
  type QuadMamba,
  scope,
  tensor,
} from "../../lib/index.js";
import { PRESETS, readConfigFile, resolveTrainConfig } from "../../lib/train/index.js";
import { upgradeConfig } from "../../lib/train/config.js";
import { computeGradients } from "../../lib/train/gradients.js";
import { makeOptimizer } from "../../lib/train/optimizer.js";
import { learningRate } from "../../lib/train/schedule.js";
import { temporaryFolder } from "../helpers/temporary.js";

const recipe = suite("recipe");
const work = temporaryFolder();

recipe("every preset is a whole configuration", () => {
  for (const preset of Object.keys(PRESETS)) resolveTrainConfig({ preset });
});

recipe("given keys win over the preset's; null takes one back; a variant's name replaces the model", () => {
  const plain = resolveTrainConfig({ preset: "imagenet-tiny" });
  assert.equal(plain.model, { variant: "tiny", dropPathRate: 0.2 });
  assert.is(plain.augment.mixup, 0.8);
  assert.equal(plain.augment.resizedCrop?.scale, [0.08, 1]);
  const changed = resolveTrainConfig({
    preset: "imagenet-tiny",
    model: { semantics: "released" },
    augment: { mixup: 0, resizedCrop: null },
    epochs: 30,
  });
  assert.equal(changed.model, { variant: "tiny", dropPathRate: 0.2, semantics: "released" });
  assert.equal(
    [changed.augment.mixup, changed.augment.cutmix, changed.augment.resizedCrop],
    [0, 1, undefined],
  );
  assert.is(changed.epochs, 30);
  assert.is(resolveTrainConfig({ preset: "imagenet-tiny", model: "nano" }).model, "nano");
});

recipe("wrong presets, keys and values are named", () => {
  for (const [given, message] of [
    [{ preset: "cifar" }, /unknown preset \(did you mean cifar10\?\)/],
    [{ preset: "imagenet" }, /imagenet-lite, imagenet-tiny/],
    [{ flip: true }, /did you mean augment\.flip/],
    [{ augment: { mixp: 1 } }, /unknown key augment\.mixp \(did you mean mixup\?\)/],
    [{ augment: { flip: 2 } }, /augment\.flip/],
    [{ warmup: "20" }, /warmup: expected a share from 0 to 1, or a text such as 20 epochs/],
    [{ accumulate: 3, batchSize: 16 }, /accumulate does not divide batchSize/],
    [{ layerDecay: 0 }, /layerDecay/],
  ] as [object, RegExp][])
    try {
      resolveTrainConfig(given);
      assert.unreachable(JSON.stringify(given));
    } catch (error) {
      assert.instance(error, ConfigError, String(error));
      assert.match((error as Error).message, message);
    }
});

recipe("a configuration resolves to itself, also from a file", () => {
  const config = resolveTrainConfig({ preset: "cifar10", warmup: "2 epochs", lrBatchSize: 256 });
  assert.equal(resolveTrainConfig(config), config);
  const path = join(work, "config.json");
  writeFileSync(path, JSON.stringify(config));
  assert.equal(resolveTrainConfig(readConfigFile(path)), config);
});

recipe("keys of older files find their places", () => {
  const old = resolveTrainConfig(upgradeConfig({ data: "mnist", flip: true, shift: 2 }));
  assert.equal([old.augment.flip, old.augment.shift, old.fit], [0.5, 2, "pad"]);
});

recipe("learning rates: scaled by the batch, warmed up over a share or epochs, then half a cosine", () => {
  const config = resolveTrainConfig({
    ...{ epochs: 10, batchSize: 512, lrBatchSize: 1024, lr: 1e-3, minLr: 1e-5, warmupLr: 1e-6 },
    warmup: "2 epochs",
  });
  const at = learningRate(config, 5);
  const near = (a: number, b: number) => assert.ok(Math.abs(a - b) < 1e-12, `${a} instead of ${b}`);
  near(at(0), 0.5 * (1e-6 + (1e-3 - 1e-6) / 10));
  near(at(9), 0.5e-3);
  near(at(30), 0.5 * (1e-5 + (1e-3 - 1e-5) / 2));
  near(at(50), 0.5e-5);
  const shares = resolveTrainConfig({ epochs: 10, warmup: 0.2, lr: 1e-3 });
  near(learningRate(shares, 5)(9), 1e-3);
  assert.throws(
    () => learningRate(resolveTrainConfig({ epochs: 1, warmup: "2 epochs" }), 5),
    /longer than the run/,
  );
});

function tinyModel(options: object = {}): QuadMamba {
  manualSeed(5);
  return createQuadMamba({ dims: 8, depths: [1, 2, 1, 1], inChannels: 1, numClasses: 4, ...options });
}

recipe("parameter groups: no decay for A_logs, D, biases and norms; layer decay by depth", () => {
  const model = tinyModel();
  const name = new Map([...model.namedParameters()].map(([key, t]) => [t, key]));
  const config = resolveTrainConfig({ layerDecay: 0.5, weightDecay: 0.1 });
  const optimizer = makeOptimizer(model, config);
  optimizer.lr = 1;
  const found = new Map(
    optimizer.groups.flatMap(({ params, options }) =>
      params.map((t) => [name.get(t) as string, [options.lr, options.weightDecay]]),
    ),
  );
  assert.is(found.size, name.size);
  for (const [key, expected] of [
    ["patch_embed.0.weight", [1 / 64, 0.1]],
    ["patch_embed.0.bias", [1 / 64, 0]],
    ["layers.0.blocks.0.op.A_logs", [1 / 32, 0]],
    ["layers.0.downsample.1.weight", [1 / 32, 0.1]],
    ["layers.1.blocks.0.op.Ds", [1 / 16, 0]],
    ["layers.1.blocks.1.op.dt_projs_bias", [1 / 8, 0]],
    ["layers.1.downsample.3.weight", [1 / 8, 0]],
    ["layers.3.blocks.0.op.in_proj.weight", [1 / 2, 0.1]],
    ["classifier.norm.weight", [1, 0]],
    ["classifier.head.weight", [1, 0.1]],
  ] as [string, number[]][])
    assert.equal(found.get(key), expected, key);
  const decaying = makeOptimizer(model, { ...config, decayALogs: true });
  const withDecay = decaying.groups
    .filter(({ options }) => options.weightDecay > 0)
    .flatMap(({ params }) => params);
  assert.ok(withDecay.some((t) => name.get(t) === "layers.0.blocks.0.op.A_logs"));
  for (const owner of [optimizer, decaying, model]) owner.dispose();
});

function gradientsOf(
  model: QuadMamba,
  accumulate: number,
  targets?: Float32Array,
): Map<string, Float32Array> {
  manualSeed(9);
  return scope(() => {
    const images = tensor(
      Float32Array.from({ length: 8 * 16 * 16 }, (_, k) => Math.sin(k * k)),
      [8, 16, 16, 1],
    );
    const labels = tensor(Int32Array.from([0, 1, 2, 3, 3, 2, 1, 0]));
    const batch = { images, labels, targets: targets ? tensor(targets, [8, 4]) : null };
    computeGradients(model, batch, { labelSmoothing: 0.1, precision: "fp32", accumulate });
    const found = new Map<string, Float32Array>();
    for (const [name, t] of model.namedParameters())
      found.set(name, Float32Array.from(t.grad?.toTypedArray() as Float32Array));
    model.zeroGrad();
    return found;
  });
}

/** The largest difference over the largest gradient of each parameter, the worst of all. */
function distance(a: Map<string, Float32Array>, b: Map<string, Float32Array>): number {
  return Math.max(
    ...[...a].map(([name, values]) => {
      const others = b.get(name) as Float32Array;
      const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-6);
      return values.reduce((most, x, k) => Math.max(most, Math.abs(x - others[k])), 0) / scale;
    }),
  );
}

recipe("gradients of accumulated parts are those of the batch, within rounding", () => {
  const model = tinyModel({ quadStages: [] }); // nothing is drawn
  const whole = gradientsOf(model, 1);
  for (const parts of [2, 4, 8]) {
    const error = distance(whole, gradientsOf(model, parts));
    assert.ok(error > 0 && error < 1e-4, `${parts} parts: ${error}`);
  }
  const targets = Float32Array.from({ length: 32 }, (_, k) => (k % 4 === 1 ? 0.7 : 0.1));
  assert.ok(distance(gradientsOf(model, 1, targets), gradientsOf(model, 4, targets)) < 1e-4, "soft targets");
  model.dispose();
});

recipe("soft targets that are smoothed labels give the gradients of the labels", () => {
  const model = tinyModel();
  const labels = [0, 1, 2, 3, 3, 2, 1, 0];
  const targets = Float32Array.from({ length: 32 }, (_, k) => (labels[k >> 2] === k % 4 ? 0.925 : 0.025));
  assert.ok(distance(gradientsOf(model, 1), gradientsOf(model, 1, targets)) < 1e-4);
  model.dispose();
});

recipe("checkpointing of activations changes no bit, and keeps less", () => {
  const model = tinyModel({ dropPathRate: 0.5 });
  const plain = gradientsOf(model, 1);
  model.checkpointing = true;
  const again = gradientsOf(model, 1);
  for (const [name, values] of plain) assert.equal(again.get(name), values, name);
  const saved = (checkpointing: boolean): number => {
    model.checkpointing = checkpointing;
    return scope(() => {
      const images = tensor(new Float32Array(4 * 32 * 32), [4, 32, 32, 1]);
      const before = memory.liveBytes;
      crossEntropy(model.forward(images), tensor(Int32Array.from([0, 1, 2, 3])));
      return memory.liveBytes - before;
    });
  };
  assert.ok(saved(true) < saved(false) / 3);
  model.dispose();
});

recipe.run();
