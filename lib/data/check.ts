import { join } from "node:path";
import { datasetName, loadDataset } from "./dataset.js";
import { decodeFiles } from "./decode_files.js";
import { imagesBelow, subfolders } from "./image_folder.js";
import type { ImageSet } from "./image_set.js";
import { packedFault } from "./packed.js";

/** What a data set was found to be. */
export interface Checked {
  name: string;
  /** Images of each class, damaged ones too. */
  classes: { name: string; train: number; test: number }[];
  /** Smallest and largest of the whole images; undefined if there is none. */
  height: [number, number] | undefined;
  width: [number, number] | undefined;
  /** Files that are no images, by their names. */
  passedOver: number;
  /** All that is wrong, one line each, with the path. */
  problems: string[];
}

/** Images by their names, in formats that are not read: they would be missing without a word. */
const UNSUPPORTED = /\.(?:bmp|heic|heif|jp2|jxl|psd|tga|pnm|ppm|pgm)$/i;

/**
 * Looks at a whole data set. Of image folders every file is decoded, by all cores; of packed files the checksums are verified.
 * @param what  a folder of train/CLASS and val/CLASS, a packed file, or a name that {@link loadDataset} knows
 * @throws {FileError} naming what cannot be read at all; {ConfigError} for an unknown name
 */
export async function checkData(what: string): Promise<Checked> {
  const name = datasetName(what);
  if (name.startsWith("folder:")) return await checkFolder(name, name.slice("folder:".length));
  const { classes, train, test } = await loadDataset(name);
  const [inTrain, inTest] = [train, test].map(({ labels }) => {
    const counts = new Array<number>(classes.length).fill(0);
    for (const label of labels) counts[label]++;
    return counts;
  });
  const problems: string[] = [];
  for (const [split, set] of Object.entries({ train, test })) {
    const fault = set.kind === "packed" ? packedFault(set) : undefined;
    if (fault) problems.push(`${(set as { path: string }).path}: ${split}: ${fault}`);
  }
  const { height, width } = train as Exclude<ImageSet, { kind: "files" }>;
  return {
    name,
    classes: classes.map((one, k) => ({ name: one, train: inTrain[k], test: inTest[k] })),
    ...{ height: [height, height], width: [width, width], passedOver: 0, problems },
  };
}

async function checkFolder(name: string, folder: string): Promise<Checked> {
  const problems: string[] = [];
  const paths: string[] = [];
  let passedOver = 0;
  const other = (path: string) => {
    if (UNSUPPORTED.test(path)) problems.push(`${path}: is an image of a format that is not read`);
    else passedOver++;
  };
  const splits = (["train", "val"] as const).map((split) => {
    const counts = new Map<string, number>();
    for (const one of subfolders(join(folder, split))) {
      const found = imagesBelow(join(folder, split, one), other);
      counts.set(one, found.length);
      if (found.length === 0) problems.push(`${join(folder, split, one)}: has no images`);
      for (const path of found) paths.push(path);
    }
    if (counts.size === 0) problems.push(`${join(folder, split)}: has no classes`);
    return counts;
  });
  const [train, val] = splits;
  for (const one of train.keys())
    if (!val.has(one)) problems.push(`${join(folder, "val", one)}: is missing, but a class of train`);
  for (const one of val.keys())
    if (!train.has(one)) problems.push(`${join(folder, "val", one)}: is a class that train has not`);
  const range = await decodeAll(paths, problems);
  const names = [...new Set([...train.keys(), ...val.keys()])];
  return {
    name,
    classes: names.map((one) => ({ name: one, train: train.get(one) ?? 0, test: val.get(one) ?? 0 })),
    ...{ ...range, passedOver, problems },
  };
}

/** The range of sizes. Damaged files are added to the problems. */
async function decodeAll(
  paths: readonly string[],
  problems: string[],
): Promise<Pick<Checked, "height" | "width">> {
  let height: Checked["height"];
  let width: Checked["width"];
  const wider = ([low, high]: [number, number] = [Infinity, 0], value: number): [number, number] => [
    Math.min(low, value),
    Math.max(high, value),
  ];
  for await (const { sizes, failures } of decodeFiles(paths, 3)) {
    for (const { error } of failures) problems.push(error.message);
    for (const [h, w] of sizes) {
      if (h === 0) continue;
      height = wider(height, h);
      width = wider(width, w);
    }
  }
  return { height, width };
}
