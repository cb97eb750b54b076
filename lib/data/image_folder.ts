import { type Dirent, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { asFileError } from "../io/atomic_write.js";
import { FileError } from "../util/errors.js";
import type { DataSource, FileSet } from "./image_set.js";

/** Names that are taken for images, in any case of letters: what sharp's prebuilt library reads. */
const SUFFIX = /\.(?:jpe?g|jfif|png|webp|gif|avif|tiff?|svg)$/i;

/**
 * Image files in DIR/train/CLASS and DIR/val/CLASS, at any depth below. Classes are the folders of train, and classes and files
 * are sorted by code unit, as Python's sorted() does for all but rare characters. Other files and names that begin with a dot are
 * passed over.
 * @throws {FileError} naming the folder, if one is missing or empty, or val has a class that train has not
 */
export function readImageFolder(name: string, folder: string): DataSource {
  const classes = subfolders(join(folder, "train"));
  if (classes.length === 0)
    throw new FileError(
      "loadDataset",
      `${join(folder, "train")}: has no classes`,
      "one folder of images per class",
    );
  const foreign = subfolders(join(folder, "val")).find((one) => !classes.includes(one));
  if (foreign !== undefined)
    throw new FileError("loadDataset", `${join(folder, "val", foreign)}: is a class that train has not`);
  return {
    name,
    train: listImages(join(folder, "train"), classes, true),
    test: listImages(join(folder, "val"), classes, false),
    classes,
  };
}

function listImages(folder: string, classes: readonly string[], all: boolean): FileSet {
  const paths: string[] = [];
  const labels: number[] = [];
  const present = new Set(subfolders(folder));
  classes.forEach((name, label) => {
    const found = present.has(name) ? imagesBelow(join(folder, name)) : [];
    if (found.length === 0 && all)
      throw new FileError("loadDataset", `${join(folder, name)}: has no images`, "at least one");
    for (const path of found) {
      paths.push(path);
      labels.push(label);
    }
  });
  if (paths.length === 0) throw new FileError("loadDataset", `${folder}: has no images`, "at least one");
  return { kind: "files", paths, labels: Int32Array.from(labels), count: paths.length, channels: 3 };
}

/** In sorted order. Class folders may be symbolic links. */
export function subfolders(folder: string): string[] {
  return entries(folder)
    .filter((entry) => entry.isDirectory() || (entry.isSymbolicLink() && isFolder(join(folder, entry.name))))
    .map(({ name }) => name);
}

/** Links to folders below a class are not followed: they may lead in a circle. `other` is told of what is passed over. */
export function imagesBelow(folder: string, other: (path: string) => void = () => {}): string[] {
  return entries(folder).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (SUFFIX.test(entry.name)) return [path]; // a folder of such a name is an error when it is decoded
    if (entry.isDirectory()) return imagesBelow(path, other);
    other(path);
    return [];
  });
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false; // a link that leads nowhere
  }
}

/** In the order of the code units of their names. */
function entries(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter(({ name }) => !name.startsWith("."))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    throw asFileError("loadDataset", folder, "cannot be listed", error);
  }
}
