/** Data sets in files, and batches made of them. */
import { cpSync, mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  batchOf,
  epochOrder,
  type ImageDataset,
  loadDataset,
  measureNormalisation,
} from "../../lib/data/index.js";
import { ConfigError, FileError, type Tensor } from "../../lib/index.js";
import { writeTinyData } from "../helpers/idx_files.js";
import { temporaryFolder } from "../helpers/temporary.js";

const data = suite("data");
const work = temporaryFolder();
const good = join(work, "good");
writeTinyData(good, { train: 20, test: 10, size: 14, classes: 4 });

data("a folder of IDX files", () => {
  const { train, test, classes } = loadDataset(`idx:${good}`);
  assert.equal([train.count, train.height, train.width, train.channels], [20, 14, 14, 1]);
  assert.is(test.count, 10);
  assert.equal(classes, ["0", "1", "2", "3"]);
});

data("MNIST from its package", () => {
  const { train, test, classes } = loadDataset("mnist");
  assert.equal([train.count, test.count, train.height, classes.length], [60000, 10000, 28, 10]);
  assert.equal([...train.labels.subarray(0, 5)], [5, 0, 4, 1, 9]);
  const { mean, std } = measureNormalisation(train);
  assert.ok(Math.abs(mean - 0.1307) < 1e-4 && Math.abs(std - 0.3081) < 1e-4, `${mean} ${std}`);
});

/** Copies of the good folder, each with one thing wrong. */
const DAMAGE: [string, (folder: string) => void, RegExp][] = [
  ["a missing file", (folder) => rmSync(join(folder, "t10k-labels-idx1-ubyte")), /t10k-labels/],
  ["a cut file", (folder) => truncateSync(join(folder, "train-images-idx3-ubyte"), 1000), /train-images/],
  [
    "labels for other images",
    (folder) => cpSync(join(folder, "t10k-labels-idx1-ubyte"), join(folder, "train-labels-idx1-ubyte")),
    /count/,
  ],
  [
    "labels where images should be",
    (folder) => cpSync(join(folder, "train-labels-idx1-ubyte"), join(folder, "train-images-idx3-ubyte")),
    /no images/,
  ],
  [
    "no IDX at all",
    (folder) => writeFileSync(join(folder, "train-labels-idx1-ubyte"), "hello"),
    /train-labels/,
  ],
];
for (const [name, damage, message] of DAMAGE) {
  data(`${name} is refused by name`, () => {
    const folder = join(work, name.replaceAll(" ", "-"));
    mkdirSync(folder);
    cpSync(good, folder, { recursive: true });
    damage(folder);
    assert.throws(
      () => loadDataset(`idx:${folder}`),
      (error: Error) => error instanceof FileError && message.test(error.message),
    );
  });
}

data("an unknown name is refused", () => {
  assert.throws(
    () => loadDataset("fashion"),
    (error: Error) => error instanceof ConfigError,
  );
  assert.throws(
    () => loadDataset(undefined as never),
    (error: Error) => error instanceof ConfigError,
  );
});

/** One image of 2 x 2 pixels with the values 51, 102, 153 and 204 (0.2 to 0.8). */
const tiny: ImageDataset = {
  images: Uint8Array.of(51, 102, 153, 204),
  labels: Uint8Array.of(3),
  count: 1,
  height: 2,
  width: 2,
  channels: 1,
};
const plain = { size: 4, mean: 0, std: 1 };
const pixels = ({ images }: { images: Tensor }): number[] =>
  Array.from(images.toTypedArray() as Float32Array, (v) => Math.round(v * 10));

data("images are centred on black and normalised", () => {
  assert.equal(pixels(batchOf(tiny, [0], plain)), [0, 0, 0, 0, 0, 2, 4, 0, 0, 6, 8, 0, 0, 0, 0, 0]);
  assert.equal(pixels(batchOf(tiny, [0], { size: 2, mean: 0.2, std: 0.5 })), [0, 4, 8, 12]);
  assert.throws(() => batchOf(tiny, [0], { ...plain, size: 1 }), /do not fit/);
});

data(
  "flips and shifts: all of them occur, and they depend on the sample and the epoch, not on the batch",
  () => {
    const seen = new Set<string>();
    for (let epoch = 0; epoch < 200; epoch++) {
      const augmentation = { seed: 5, epoch, flip: true, shift: 1 };
      const alone = pixels(batchOf(tiny, [0], plain, augmentation));
      const twice = pixels(batchOf(tiny, [0, 0], plain, augmentation));
      assert.equal(twice, [...alone, ...alone]);
      seen.add(String(alone));
    }
    assert.is(seen.size, 18); // nine places, mirrored or not
  },
);

data("every epoch has its own order, which the seed repeats", () => {
  const [a, b, c] = [epochOrder(50, 1, 0), epochOrder(50, 1, 1), epochOrder(50, 1, 0)];
  assert.equal(a, c);
  assert.not.equal(a, b);
  assert.equal(
    [...b].sort((x, y) => x - y),
    Array.from({ length: 50 }, (_, k) => k),
  );
});

data.run();
