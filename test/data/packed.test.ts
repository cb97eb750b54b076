/** Packed files: the bytes of their source, the same batches, and every kind of damage refused. */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { augmentSchema } from "../../lib/data/augment/spec.js";
import { decodeFile } from "../../lib/data/decode.js";
import {
  type DataSource,
  fitImage,
  type ImageSet,
  Loader,
  loadDataset,
  measureNormalisation,
  type PackedSet,
  packData,
  preparationFor,
} from "../../lib/data/index.js";
import { packedFault } from "../../lib/data/packed.js";
import { Pixels, pixelSource } from "../../lib/data/pixels.js";
import { ConfigError, FileError } from "../../lib/index.js";
import { hashData } from "../../lib/train/data_hash.js";
import { noiseSet } from "../helpers/image_sets.js";
import { rejects } from "../helpers/rejects.js";
import { temporaryFolder } from "../helpers/temporary.js";

const packed = suite("packed");
const work = temporaryFolder();
const source: DataSource = {
  name: "noise",
  train: noiseSet(9, 3, 7, 3),
  test: noiseSet(5, 3, 7, 3),
  classes: ["a", "b", "ü"],
};
const file = join(work, "noise.qmpack");
await packData(source, file);
const whole = readFileSync(file);

const bytesOf = (set: ImageSet) =>
  Buffer.concat([...new Pixels(pixelSource(set as PackedSet)).chunks()].map((chunk) => Buffer.from(chunk)));

packed("a packed set is its source: bytes, labels, classes, normalisation", async () => {
  const { name, classes, ...sets } = await loadDataset(`packed:${file}`);
  assert.is(name, `packed:${file}`);
  assert.equal(classes, source.classes);
  for (const split of ["train", "test"] as const) {
    assert.ok(bytesOf(sets[split]).equals(bytesOf(source[split])), split);
    assert.equal(sets[split].labels, source[split].labels);
    assert.is(packedFault(sets[split] as PackedSet), undefined);
  }
  assert.equal(measureNormalisation(sets.train), measureNormalisation(source.train));
  assert.not.equal(hashData({ ...source, ...sets }), hashData({ ...source, ...sets, test: sets.train }));
});

packed("the same batches as from memory, with and without workers", async () => {
  const { train } = await loadDataset(`packed:${file}`);
  const prepare = preparationFor(source.train, { size: 8, fit: "resize" });
  const spec = augmentSchema.parse({ flip: 0.5, shift: 2, mixup: 0.8 });
  const training = { spec, seed: 3, epoch: 1, batch: 4, smoothing: 0.1 };
  const load = async (set: ImageSet, workers: number) => {
    const loader = new Loader(set, prepare, { classes: 3, workers });
    try {
      return [await loader.batch([8, 0, 3, 3]), await loader.batch([1, 7, 2], training)];
    } finally {
      await loader.dispose();
    }
  };
  const expected = await load(source.train, 0);
  for (const workers of [0, 2]) assert.equal(await load(train, workers), expected, `${workers} workers`);
});

packed("image files: the shorter side to the size, then the centre", async () => {
  const root = join(work, "files");
  const noise = Buffer.from(noiseSet(1, 1, 40, 3).pixels);
  for (const [path, width] of [
    ["train/a/1.png", 40],
    ["train/b/2.jpg", 32],
    ["val/a/3.png", 20],
  ] as const) {
    mkdirSync(join(root, path, ".."), { recursive: true });
    await sharp(noise.subarray(0, 24 * width * 3), { raw: { width, height: 24, channels: 3 } }).toFile(
      join(root, path),
    );
  }
  const folder = await loadDataset(`folder:${root}`);
  await rejects(packData(folder, join(work, "none.qmpack")), ConfigError, /--size N/);
  const path = join(work, "files.qmpack");
  await packData(folder, path, 16);
  const { train } = await loadDataset(`packed:${path}`);
  assert.equal([train.count, (train as PackedSet).height, (train as PackedSet).width], [2, 16, 16]);
  const prepare = preparationFor(folder.train, { size: 16, fit: "crop", interpolation: "bicubic" });
  const wanted = await Promise.all(
    ["train/a/1.png", "train/b/2.jpg"].map(
      async (name) => fitImage(await decodeFile(join(root, name), 3), prepare).data,
    ),
  );
  assert.ok(bytesOf(train).equals(Buffer.concat(wanted)));
  assert.equal(measureNormalisation(train), measureNormalisation(folder.train));

  writeFileSync(join(root, "train/a/0.png"), "no image");
  const before = readdirSync(work);
  const damaged = packData(await loadDataset(`folder:${root}`), join(work, "no.qmpack"), 16);
  await rejects(damaged, FileError, /0\.png: is no whole image/);
  assert.equal(readdirSync(work), before);
});

/** The file with another header, whose checksum is right. */
function withHeader(change: (header: Record<string, unknown>) => unknown): Buffer {
  const length = Number(whole.readBigUInt64LE(whole.length - 40));
  const begin = whole.length - 40 - length;
  const json = Buffer.from(
    JSON.stringify(change(JSON.parse(whole.subarray(begin, begin + length).toString()))),
  );
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([whole.subarray(0, begin), json, size, createHash("sha256").update(json).digest()]);
}

function changed(at: number, by: number): Buffer {
  const bytes = Buffer.from(whole);
  bytes[at < 0 ? bytes.length + at : at] ^= by;
  return bytes;
}

packed("a damaged, cut or foreign file is refused by its name", async () => {
  const split = { labels: [0], sha256: "0".repeat(64) };
  const cases: Record<string, [Uint8Array, RegExp]> = {
    empty: [new Uint8Array(0), /no packed data set/],
    foreign: [Buffer.alloc(5000, "quadmamba "), /no packed data set/],
    version: [changed(8, 3), /of another version.*got 2/s],
    cut: [whole.subarray(0, whole.length - 1), /cut short/],
    half: [whole.subarray(0, whole.length / 2), /cut short/],
    "first bytes": [whole.subarray(0, 64), /no packed data set/],
    longer: [Buffer.concat([whole, Buffer.alloc(1)]), /cut short/],
    header: [changed(-60, 1), /header does not have its checksum/],
    checksum: [changed(-1, 1), /header does not have its checksum/],
    "header length": [changed(-33, 255), /does not end in a header/],
    "no object": [withHeader(() => 7), /header of another form/],
    "missing key": [withHeader(({ classes, ...rest }) => rest), /another form \(classes/],
    "larger images": [withHeader((header) => ({ ...header, height: 9 })), /length of its images/],
    "fewer images": [withHeader((header) => ({ ...header, test: split })), /length of its images/],
    "fewer classes": [withHeader((header) => ({ ...header, classes: ["a"] })), /label without a class/],
    normalisation: [
      withHeader((header) => ({ ...header, normalisation: { mean: [0], std: [1] } })),
      /other channels/,
    ],
  };
  for (const [name, [bytes, message]] of Object.entries(cases)) {
    const path = join(work, `${name}.bad`);
    writeFileSync(path, bytes);
    const error = await rejects(loadDataset(`packed:${path}`), FileError, message);
    assert.ok(error.message.includes(path), name);
  }
  await rejects(loadDataset(`packed:${work}`), FileError, /not a regular file/);
  await rejects(loadDataset(`packed:${join(work, "missing")}`), FileError, /ENOENT/);
});

packed("damaged pixels are found by their checksum", async () => {
  const path = join(work, "pixels.bad");
  writeFileSync(path, changed(64 + 20, 1));
  const { train, test } = await loadDataset(`packed:${path}`);
  assert.match(String(packedFault(train as PackedSet)), /SHA-256/);
  assert.is(packedFault(test as PackedSet), undefined);
});

packed.run();
