/** Folders of image files, and batches of them. */
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { augmentSchema } from "../../lib/data/augment/spec.js";
import {
  type FileSet,
  Loader,
  type LoaderOptions,
  loadDataset,
  preparationFor,
} from "../../lib/data/index.js";
import { ArgumentError, FileError, LoaderError } from "../../lib/index.js";
import { rejects } from "../helpers/rejects.js";
import { temporaryFolder } from "../helpers/temporary.js";

const folders = suite("image folder");
const work = temporaryFolder();

/** Writes an image of one colour; equal numbers are equal files. */
async function image(path: string, grey = 100, size = 20): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const background = { r: grey, g: grey, b: grey };
  await sharp({ create: { width: size + 4, height: size, channels: 3, background } }).toFile(path);
}

async function makeFolder(name: string): Promise<string> {
  const root = join(work, name);
  for (const path of [
    "train/b/2.png",
    "train/b/10.png",
    "train/B/x.JPG",
    "train/é/deep/er/y.png",
    "val/b/z.webp",
  ])
    await image(join(root, path));
  writeFileSync(join(root, "train/b/notes.txt"), "no image");
  writeFileSync(join(root, "train/b/.hidden.png"), "no image");
  writeFileSync(join(root, "train/list.txt"), "no class");
  mkdirSync(join(root, "train/.cache"));
  return root;
}

const relative = (root: string, { paths }: FileSet) => paths.map((path) => path.slice(root.length + 1));

folders("names sorted by code unit, at any depth; other files are passed over", async () => {
  const root = await makeFolder("plain");
  const { train, test, classes } = await loadDataset(`folder:${root}`);
  assert.equal(classes, ["B", "b", "é"]);
  assert.equal(relative(root, train as FileSet), [
    "train/B/x.JPG",
    "train/b/10.png",
    "train/b/2.png",
    "train/é/deep/er/y.png",
  ]);
  assert.equal([...train.labels], [0, 1, 1, 2]);
  assert.equal(relative(root, test as FileSet), ["val/b/z.webp"]);
  assert.equal([...test.labels], [1]);
});

folders("links: of classes they are followed, below them those to folders are not", async () => {
  const root = await makeFolder("links");
  symlinkSync("b", join(root, "train/c"));
  symlinkSync("..", join(root, "train/b/circle"));
  symlinkSync("nowhere", join(root, "train/d"));
  const { train, classes } = await loadDataset(`folder:${root}`);
  assert.equal(classes, ["B", "b", "c", "é"]);
  assert.is(train.count, 6);
});

folders("what is missing is named", async () => {
  const broken = async (name: string, change: (root: string) => unknown, message: RegExp) => {
    const root = await makeFolder(name);
    await change(root);
    await rejects(loadDataset(`folder:${root}`), FileError, message);
  };
  await broken(
    "no_train",
    (root) => rmSync(join(root, "train"), { recursive: true }),
    /no_train\/train" cannot be listed/,
  );
  await broken(
    "no_val",
    (root) => rmSync(join(root, "val"), { recursive: true }),
    /no_val\/val" cannot be listed/,
  );
  await broken("empty_class", (root) => mkdirSync(join(root, "train/f")), /train\/f: has no images/);
  await broken("empty_val", (root) => rmSync(join(root, "val/b"), { recursive: true }), /val: has no images/);
  await broken(
    "foreign",
    (root) => image(join(root, "val/other/1.png")),
    /val\/other: is a class that train has not/,
  );
});

/** 300 files that share four contents, with `damaged` ones among them. */
async function numbered(name: string, damaged: readonly number[]): Promise<FileSet> {
  const root = join(work, name);
  const contents = await Promise.all(
    [0, 60, 120, 180].map((grey) =>
      sharp({ create: { width: 12, height: 9, channels: 3, background: { r: grey, g: grey, b: grey } } })
        .png()
        .toBuffer(),
    ),
  );
  mkdirSync(root, { recursive: true });
  const paths = Array.from({ length: 300 }, (_, k) => join(root, `${k}.png`));
  paths.forEach((path, k) => {
    writeFileSync(path, damaged.includes(k) ? contents[k % 4].subarray(0, 40) : contents[k % 4]);
  });
  const labels = Int32Array.from(paths, (_, k) => k % 4);
  return { kind: "files", paths, labels, count: 300, channels: 3 };
}

const plain = augmentSchema.parse({});
const training = { spec: plain, seed: 0, epoch: 0, batch: 0, smoothing: 0 };
async function withLoader<T>(
  set: FileSet,
  options: Partial<LoaderOptions>,
  use: (loader: Loader) => Promise<T>,
) {
  const prepare = preparationFor(set, { size: 8, fit: "resize", mean: [0, 0, 0], std: [1, 1, 1] });
  const loader = new Loader(set, prepare, { classes: 4, ...options });
  try {
    return await use(loader);
  } finally {
    await loader.dispose();
  }
}

folders("batches of files, in the order asked for", async () => {
  const set = await numbered("whole", []);
  for (const workers of [0, 2])
    await withLoader(set, { workers }, async (loader) => {
      const { pixels, labels, shape } = await loader.batch([3, 0, 2, 1, 299]);
      assert.equal(shape, [5, 8, 8, 3]);
      assert.equal([...labels], [3, 0, 2, 1, 3]);
      assert.equal(
        [0, 1, 2, 3, 4].map((k) => Math.round(pixels[k * 192 + 100] * 255)),
        [180, 0, 120, 60, 180],
      );
    });
});

folders("a damaged file: the first one of the batch is named", async () => {
  const set = await numbered("damaged", [7, 8, 20]);
  for (const workers of [0, 2])
    await withLoader(set, { workers }, async (loader) => {
      await rejects(loader.batch([1, 20, 7], training), FileError, /20\.png: is no whole image/);
      await loader.batch([1, 2, 3], training); // the loader goes on
    });
});

folders("skip: the next whole file takes the place, and the list tells", async () => {
  const set = await numbered("skipped", [7, 8, 20]);
  for (const workers of [0, 2])
    await withLoader(set, { workers, damaged: "skip" }, async (loader) => {
      const { labels, pixels } = await loader.batch([6, 7, 20, 8], training);
      assert.equal([...labels], [2, 1, 1, 1]); // 6, 9, 21, 9
      assert.is(Math.round(pixels[192 + 100] * 255), 60);
      assert.equal([...loader.skipped.keys()].sort(), [20, 7, 8]);
      assert.match(loader.skipped.get(7) as string, /7\.png: is no whole image/);
      // test images are never left out
      await rejects(loader.batch([7]), FileError, /7\.png/);
    });
});

folders("skip: more than 1 % of the files end it", async () => {
  const set = await numbered("many", [3, 50, 100, 150]);
  await withLoader(set, { damaged: "skip" }, async (loader) => {
    await loader.batch([3, 50, 100], training);
    await rejects(
      loader.batch([150], training),
      LoaderError,
      /more than 1 % .*150\.png.*at most 3 of 300, got 4/s,
    );
  });
});

folders("files are not padded: they differ in size", async () => {
  const set = await numbered("padded", []);
  assert.throws(
    () => new Loader(set, preparationFor(set, { size: 16 }), { classes: 4 }),
    (error: Error) => error instanceof ArgumentError && /cannot be padded/.test(error.message),
  );
});

folders.run();
