/** Mixup and cutmix over a batch, and the targets that go with them. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Draws } from "../../../lib/data/augment/draws.js";
import { augmentSchema, mixBatch } from "../../../lib/data/augment/index.js";
import { blend, cutBox, softTargets, swapBoxes } from "../../../lib/data/augment/mix.js";
import { IndexError } from "../../../lib/index.js";

const mix = suite("augmentation of batches");

/** Image k is all k. */
function batchOf(batch: number): { pixels: Float32Array; shape: [number, number, number, number] } {
  const pixels = Float32Array.from({ length: batch * 8 * 6 * 2 }, (_, k) => Math.floor(k / 96));
  return { pixels, shape: [batch, 8, 6, 2] };
}
const key = (batch: number) => ({ seed: 3, epoch: 1, batch });

mix("targets as timm's mixup_target computes them", () => {
  // timm.data.mixup.mixup_target(torch.tensor([0, 2, 2]), 4, lam=0.7, smoothing=0.1)
  const expected = [0.655, 0.025, 0.295, 0.025, 0.025, 0.025, 0.925, 0.025, 0.295, 0.025, 0.655, 0.025];
  const got = softTargets(Int32Array.of(0, 2, 2), 4, 0.7, 0.1);
  for (const [k, value] of expected.entries()) assert.ok(Math.abs(got[k] - value) < 1e-6, `${k}: ${got[k]}`);
});

mix("mixup by weight, as timm's Mixup computes it", () => {
  const pixels = Float32Array.of(1, 2, 30, 40, 5, 6);
  blend(pixels, 3, 0.25);
  assert.equal([...pixels], [4, 5, 30, 40, 2, 3]);
});

mix("cutmix trades rectangles", () => {
  const { pixels, shape } = batchOf(2);
  swapBoxes(pixels, shape, { top: 2, left: 1, height: 3, width: 4 });
  for (let k = 0; k < 2; k++)
    for (let y = 0; y < 8; y++)
      for (let x = 0; x < 6; x++) {
        const inside = y >= 2 && y < 5 && x >= 1 && x < 5;
        const at = ((k * 8 + y) * 6 + x) * 2;
        assert.equal([...pixels.subarray(at, at + 2)], inside ? [1 - k, 1 - k] : [k, k]);
      }
});

mix("the rectangle of cutmix: its area where the borders do not cut it, always inside", () => {
  let whole = 0;
  for (let sample = 0; sample < 500; sample++) {
    const { top, left, height, width } = cutBox(
      20,
      30,
      0.75,
      new Draws({ seed: 1, epoch: 0, sample }, "mix"),
    );
    assert.ok(top >= 0 && left >= 0 && top + height <= 20 && left + width <= 30);
    assert.ok(height <= 10 && width <= 15);
    if (height === 10 && width === 15) whole++;
  }
  // A centre is far enough from the borders in 11 of 20 rows and 16 of 30 columns.
  assert.ok(Math.abs(whole / 500 - (11 / 20) * (16 / 30)) < 0.08, `${whole}`);
});

mix("targets follow the pixels: mixup by weight, cutmix by the area that was pasted", () => {
  for (const choice of [{ mixup: 0.8 }, { cutmix: 1 }]) {
    const spec = augmentSchema.parse(choice);
    for (let k = 0; k < 60; k++) {
      const { pixels, shape } = batchOf(4);
      const targets = mixBatch(pixels, shape, Int32Array.of(0, 1, 2, 3), 4, spec, key(k), 0);
      for (let image = 0; image < 4; image++) {
        // Image k is all k, so the mean of its pixels is the mean of the classes under its target.
        const own = pixels.subarray(image * 96, (image + 1) * 96);
        const mean = own.reduce((sum, x) => sum + x, 0) / 96;
        const target = targets.subarray(image * 4, (image + 1) * 4);
        const expected = target.reduce((sum, p, label) => sum + p * label, 0);
        assert.ok(Math.abs(mean - expected) < 1e-5, `${mean} ${expected}`);
        assert.ok(Math.abs(target.reduce((sum, p) => sum + p, 0) - 1) < 1e-6);
      }
    }
  }
});

mix("one kind per batch, as often as asked; the same whatever was mixed before", () => {
  const spec = augmentSchema.parse({ mixup: 0.8, cutmix: 1, mixProbability: 0.8, mixSwitch: 0.25 });
  const counts = { none: 0, mixup: 0, cutmix: 0 };
  for (let k = 0; k < 2000; k++) {
    const { pixels, shape } = batchOf(2);
    mixBatch(pixels, shape, Int32Array.of(0, 1), 2, spec, key(k), 0.1);
    const values = new Set(pixels);
    if (pixels[0] === 0 && values.size === 2 && pixels.subarray(0, 96).every((x) => x === 0)) counts.none++;
    else if (values.size === 2 && values.has(0) && values.has(1)) counts.cutmix++;
    else counts.mixup++;
  }
  // A few rectangles of cutmix are empty.
  assert.ok(Math.abs(counts.mixup - 1200) < 90, JSON.stringify(counts));
  assert.ok(counts.none > 380 && counts.none < 560, JSON.stringify(counts));

  const [first, second] = [batchOf(6), batchOf(6)];
  const labels = Int32Array.of(0, 1, 2, 0, 1, 2);
  const targets = mixBatch(first.pixels, first.shape, labels, 3, spec, key(4), 0.1);
  for (const other of [9, 4]) {
    second.pixels.set(batchOf(6).pixels);
    const again = mixBatch(second.pixels, second.shape, labels, 3, spec, key(other), 0.1);
    if (other === 4) assert.equal([again, second.pixels], [targets, first.pixels]);
  }
});

mix("mixing off, or probability 0: pixels stay, targets are smoothed labels", () => {
  for (const choice of [{}, { mixup: 0.8, cutmix: 1, mixProbability: 0 }]) {
    const { pixels, shape } = batchOf(2);
    const targets = mixBatch(pixels, shape, Int32Array.of(0, 1), 2, augmentSchema.parse(choice), key(0), 0.5);
    assert.equal(pixels, batchOf(2).pixels);
    assert.equal([...targets], [0.75, 0.25, 0.25, 0.75]);
  }
});

mix("a label that is no class is refused", () => {
  assert.throws(
    () => softTargets(Int32Array.of(0, 3), 3, 1, 0),
    (error: Error) => error instanceof IndexError,
  );
});

mix.run();
