/** Data sets by name. */
import { cpSync, mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { epochOrder, imageSize, loadDataset, measureNormalisation } from "../../lib/data/index.js";
import { ConfigError, FileError } from "../../lib/index.js";
import { writeTinyData } from "../helpers/idx_files.js";
import { rejects } from "../helpers/rejects.js";
import { temporaryFolder } from "../helpers/temporary.js";

const data = suite("data");
const work = temporaryFolder();
const good = join(work, "good");
writeTinyData(good, { train: 20, test: 10, size: 14, classes: 4 });

data("a folder of IDX files", async () => {
  const { train, test, classes } = await loadDataset(`idx:${good}`);
  assert.equal(
    [train.count, train.channels, imageSize(train, { size: 28 })],
    [20, 1, { height: 14, width: 14 }],
  );
  assert.is(test.count, 10);
  assert.equal(classes, ["0", "1", "2", "3"]);
});

data("MNIST from its package", async () => {
  const { train, test, classes } = await loadDataset("mnist");
  assert.equal([train.count, test.count, classes.length], [60000, 10000, 10]);
  assert.equal([...train.labels.subarray(0, 5)], [5, 0, 4, 1, 9]);
  const {
    mean: [mean],
    std: [std],
  } = measureNormalisation(train);
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
  data(`${name} is refused by name`, async () => {
    const folder = join(work, name.replaceAll(" ", "-"));
    mkdirSync(folder);
    cpSync(good, folder, { recursive: true });
    damage(folder);
    await rejects(loadDataset(`idx:${folder}`), FileError, message);
  });
}

data("an unknown name is refused", async () => {
  await rejects(loadDataset("fashion"), ConfigError, /fashion-mnist/);
  await rejects(loadDataset("idx"), ConfigError, /idx:DIR/);
  await rejects(loadDataset("mnist:/tmp"), ConfigError, /unknown/);
  await rejects(loadDataset("constructor"), ConfigError, /unknown/);
  await rejects(loadDataset(undefined as never), ConfigError, /unknown/);
});

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
