/** check-data: every file of a folder, good and hostile, and packed files. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checkData, type DataSource, packData } from "../../lib/data/index.js";
import { FileError } from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { noiseSet } from "../helpers/image_sets.js";
import { rejects } from "../helpers/rejects.js";
import { temporaryFolder } from "../helpers/temporary.js";

const check = suite("check-data");
const work = temporaryFolder();

async function image(path: string, width: number, height: number): Promise<Buffer> {
  mkdirSync(dirname(path), { recursive: true });
  const pixels = Buffer.from(noiseSet(1, 1, 64, 3).pixels).subarray(0, width * height * 3);
  await sharp(pixels, { raw: { width, height, channels: 3 } }).toFile(path);
  return readFileSync(path);
}

async function goodFolder(name: string): Promise<string> {
  const root = join(work, name);
  for (let k = 0; k < 20; k++) await image(join(root, `train/cat/${k}.png`), 20 + k, 30);
  await image(join(root, "train/dog/deep/1.jpg"), 60, 8);
  await image(join(root, "val/cat/1.webp"), 24, 24);
  await image(join(root, "val/dog/1.gif"), 24, 24);
  writeFileSync(join(root, "train/cat/notes.txt"), "no image");
  return root;
}

function run(what: string): { status: number | null; stdout: string } {
  const main = join(packageRoot(), "dist/lib/cli/main.js");
  return spawnSync(process.execPath, [main, "check-data", what], { encoding: "utf8" });
}

check("a good folder: counts, sizes, nothing wrong", async () => {
  const root = await goodFolder("good");
  assert.equal(await checkData(root), {
    name: `folder:${root}`,
    classes: [
      { name: "cat", train: 20, test: 1 },
      { name: "dog", train: 1, test: 1 },
    ],
    ...{ height: [8, 30], width: [20, 60], passedOver: 1, problems: [] },
  });
  const { status, stdout } = run(`folder:${root}`);
  assert.is(status, 0, stdout);
  assert.match(stdout, /cat +20 +1\n.*\nall.*\nheight 8 to 30, width 20 to 60 pixels\n.*\nnothing is wrong/);
});

check("hostile files and classes are listed with their reasons", async () => {
  const root = await goodFolder("hostile");
  const jpeg = await image(join(root, "train/dog/2.jpg"), 60, 60);
  writeFileSync(join(root, "train/dog/2.jpg"), jpeg.subarray(0, jpeg.length / 2));
  writeFileSync(join(root, "train/cat/0.png"), "");
  writeFileSync(join(root, "train/cat/text.png"), "no image");
  writeFileSync(join(root, "train/cat/old.BMP"), "BM");
  mkdirSync(join(root, "val/cat/folder.png"));
  execFileSync("mkfifo", [join(root, "val/cat/pipe.png")]);
  await image(join(root, "val/bird/1.png"), 9, 9);
  mkdirSync(join(root, "train/empty"));
  const { classes, problems } = await checkData(root);
  assert.equal(classes[0], { name: "cat", train: 21, test: 3 });
  for (const [path, reason] of [
    ["train/dog/2.jpg", "is no whole image"],
    ["train/cat/0.png", "is empty"],
    ["train/cat/text.png", "is no whole image"],
    ["train/cat/old.BMP", "a format that is not read"],
    ["val/cat/folder.png", "not a regular file"],
    ["val/cat/pipe.png", "not a regular file"],
    ["train/empty", "has no images"],
    ["val/empty", "is missing, but a class of train"],
    ["val/bird", "is a class that train has not"],
  ])
    assert.is(
      problems.filter((line) => line.includes(join(root, path)) && line.includes(reason)).length,
      1,
      `${path} in ${problems.join("\n")}`,
    );
  assert.is(problems.length, 9);
  const { status, stdout } = run(root);
  assert.is(status, 1);
  assert.match(stdout, /wrong: 9\n/);
  rmSync(join(root, "val"), { recursive: true });
  await rejects(checkData(root), FileError, /val.*ENOENT/s);
});

check("a packed file: its checksums", async () => {
  const path = join(work, "noise.qmpack");
  const classes = ["a", "b", "c"];
  const data: DataSource = {
    name: "noise",
    train: noiseSet(7, 3, 9, 1),
    test: noiseSet(2, 3, 9, 1),
    classes,
  };
  await packData(data, path);
  const good = await checkData(path);
  assert.equal(
    good.classes.map(({ train, test }) => [train, test]),
    [
      [3, 1],
      [2, 1],
      [2, 0],
    ],
  );
  assert.equal([good.height, good.problems], [[9, 9], []]);
  const bytes = readFileSync(path);
  bytes[64 + 5] ^= 1;
  writeFileSync(path, bytes);
  assert.match((await checkData(path)).problems.join(), /noise\.qmpack: train: .*SHA-256/);
  assert.is(run(path).status, 1);
});

check.run();
