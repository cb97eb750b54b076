import { existsSync } from "node:fs";
import { join } from "node:path";
import { readIdx } from "../io/idx.js";
import { FileError, show } from "../util/errors.js";
import { type DataSource, type MemorySet, shareBytes } from "./image_set.js";

/**
 * A data set of four IDX files under their usual names, plain or gzipped.
 * @param names  of the classes; the digits of their numbers by default
 * @throws {FileError} naming the path, if a file is missing, damaged or does not fit the others
 */
export function readIdxFolder(name: string, folder: string, names?: readonly string[]): DataSource {
  const train = readSplit(folder, "train");
  const test = readSplit(folder, "t10k");
  for (const key of ["height", "width"] as const)
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
  return { name, train, test, classes: names ?? Array.from({ length: count }, (_, k) => String(k)) };
}

function readSplit(folder: string, prefix: "train" | "t10k"): MemorySet {
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
    kind: "memory",
    pixels: shareBytes(images.data as Uint8Array),
    labels: Int32Array.from(labels.data),
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
