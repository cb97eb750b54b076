/**
 * Packed files: a whole data set of images of one size in one file, which is mapped into memory instead of read.
 *
 * | bytes            | what                                                              |
 * |------------------|-------------------------------------------------------------------|
 * | 64               | magic, version, zeros                                             |
 * | train pixels     | [count, height, width, channels], then zeros to a multiple of 64  |
 * | test pixels      | the same                                                          |
 * | header           | JSON, {@link headerSchema}                                        |
 * | 40               | length of the header (little-endian, 8 bytes) and its SHA-256     |
 *
 * The header comes last because it has the pixels' SHA-256, and the file is written in one pass.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { writeFileAtomicAsync } from "../io/atomic_write.js";
import { readExactly, withRegularFile } from "../io/safetensors_file.js";
import { ConfigError, FileError, show } from "../util/errors.js";
import { decodeFiles } from "./decode_files.js";
import type { DataSource, FileSet, ImageSet, PackedSet } from "./image_set.js";
import { Pixels, pixelSource } from "./pixels.js";
import { fitImage, measureNormalisation, type Preparation } from "./preparation.js";

const MAGIC = Buffer.from("QMPACKED");
const VERSION = 1;
/** Images start at multiples of this, those of a processor's cache lines. */
const ALIGNMENT = 64;
const TRAILER_BYTES = 40;
const MAX_HEADER_BYTES = 2 ** 28;

const whole = z.number().int().min(1);
const numbers = z.array(z.number()).min(1);
const splitSchema = z.strictObject({
  labels: z.array(z.number().int().min(0)).min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
const headerSchema = z.strictObject({
  /** The name of the data set that was packed. */
  source: z.string(),
  classes: z.array(z.string()).min(1),
  height: whole,
  width: whole,
  channels: z.union([z.literal(1), z.literal(3)]),
  normalisation: z.strictObject({ mean: numbers, std: numbers }),
  train: splitSchema,
  test: splitSchema,
});
type Header = z.infer<typeof headerSchema>;

/**
 * Writes a data set as one file, atomically. With `size`, the shorter side of each image is brought to it, and the centre taken.
 * @throws {ConfigError} for image files without `size`; {FileError} naming an image that is damaged, or the file if it cannot be written
 */
export async function packData(data: DataSource, path: string, size?: number): Promise<void> {
  await writeFileAtomicAsync(path, packedChunks(data, size));
}

async function* packedChunks(data: DataSource, size: number | undefined): AsyncIterable<Uint8Array> {
  const { train, test, classes, name } = data;
  if (size === undefined && (train.kind === "files" || test.kind === "files"))
    throw new ConfigError("prepare-data", "image files are of different sizes, and need one", "--size N");
  const start = Buffer.alloc(ALIGNMENT);
  MAGIC.copy(start);
  start.writeUInt32LE(VERSION, MAGIC.length);
  yield start;
  const digests: string[] = [];
  for (const set of [train, test]) {
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of pixelsOf(set, size)) {
      hash.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
    digests.push(hash.digest("hex"));
    yield new Uint8Array(aligned(bytes) - bytes);
  }
  const { height, width } = train as PackedSet;
  const split = (set: ImageSet, sha256: string) => ({ labels: [...set.labels], sha256 });
  const header: Header = {
    ...{ source: name, classes: [...classes], height: size ?? height, width: size ?? width },
    channels: train.channels as Header["channels"],
    normalisation: measureNormalisation(train),
    train: split(train, digests[0]),
    test: split(test, digests[1]),
  };
  const json = Buffer.from(JSON.stringify(header));
  yield json;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  yield Buffer.concat([length, sha256(json)]);
}

async function* pixelsOf(set: ImageSet, size: number | undefined): AsyncIterable<Uint8Array> {
  if (set.kind === "files") yield* decoded(set, size as number);
  else {
    const pixels = new Pixels(pixelSource(set));
    if (size === undefined) yield* pixels.chunks();
    else for (let k = 0; k < set.count; k++) yield fitImage(pixels.image(k), preparation(size)).data;
  }
}

async function* decoded({ paths, channels }: FileSet, size: number): AsyncIterable<Uint8Array> {
  for await (const { bytes, failures } of decodeFiles(paths, channels, preparation(size))) {
    if (failures.length > 0) throw failures[0].error;
    yield bytes;
  }
}

function preparation(size: number): Preparation {
  return { size, fit: "crop", cropShare: 1, interpolation: "bicubic", mean: [0], std: [1] };
}

/**
 * A file that {@link packData} wrote. Its header is verified by its checksum, and the length of the file by the header; the pixels are
 * not read before they are needed ({@link packedFault} verifies them).
 * @throws {FileError} naming the file
 */
export function readPacked(name: string, path: string): DataSource {
  const { classes, ...header } = readHeader(path);
  const { height, width, channels, normalisation } = header;
  const { train, test } = layout(header);
  const set = (split: "train" | "test", offset: number): PackedSet => ({
    ...{ kind: "packed", path, offset, height, width, channels, normalisation },
    labels: Int32Array.from(header[split].labels),
    count: header[split].labels.length,
    sha256: header[split].sha256,
  });
  return { name, train: set("train", train), test: set("test", test), classes };
}

/** What is wrong with the pixels of a packed set: nothing, or one line. */
export function packedFault(set: PackedSet): string | undefined {
  const hash = createHash("sha256");
  for (const chunk of new Pixels(pixelSource(set)).chunks()) hash.update(chunk);
  if (hash.digest("hex") !== set.sha256) return "the pixels do not have the SHA-256 that the header says";
}

/** Where the parts of a file begin, in bytes. */
function layout({ height, width, channels, train, test }: Omit<Header, "classes">) {
  const image = height * width * channels;
  const second = ALIGNMENT + aligned(image * train.labels.length);
  return { train: ALIGNMENT, test: second, header: second + aligned(image * test.labels.length) };
}

function readHeader(path: string): Header {
  const fail = (problem: string, expected?: string, got?: string) =>
    new FileError("loadDataset", `${show(path)}: ${problem}`, expected, got);
  return withRegularFile("loadDataset", path, (handle, fileSize) => {
    const read = (position: number, length: number) =>
      Buffer.from(readExactly("loadDataset", path, handle, position, length).buffer);
    if (fileSize < ALIGNMENT + TRAILER_BYTES || !read(0, MAGIC.length).equals(MAGIC))
      throw fail("is no packed data set", "a file that prepare-data wrote");
    const version = read(MAGIC.length, 4).readUInt32LE();
    if (version !== VERSION) throw fail("is of another version", `${VERSION}`, `${version}`);
    const trailer = read(fileSize - TRAILER_BYTES, TRAILER_BYTES);
    const length = Number(trailer.readBigUInt64LE());
    if (length > Math.min(MAX_HEADER_BYTES, fileSize - ALIGNMENT - TRAILER_BYTES))
      throw fail("is damaged or cut short: it does not end in a header");
    const begin = fileSize - TRAILER_BYTES - length;
    const json = read(begin, length);
    if (!sha256(json).equals(trailer.subarray(8)))
      throw fail("is damaged or cut short: its header does not have its checksum");
    const parsed = headerSchema.safeParse(parseJson(json));
    if (!parsed.success)
      throw fail(
        `has a header of another form (${parsed.error.issues[0].path.join(".")}: ${parsed.error.issues[0].message})`,
      );
    const header = parsed.data;
    const expected = layout(header).header;
    if (begin !== expected) throw fail("does not have the length of its images", `${expected}`, `${begin}`);
    const { classes, channels, normalisation, train, test } = header;
    for (const { labels } of [train, test])
      for (const label of labels)
        if (label >= classes.length)
          throw fail("has a label without a class", `below ${classes.length}`, `${label}`);
    for (const values of [normalisation.mean, normalisation.std])
      if (values.length !== channels)
        throw fail("has a normalisation for other channels", `${channels}`, `${values.length}`);
    return header;
  });
}

function parseJson(text: Buffer): unknown {
  try {
    return JSON.parse(text.toString());
  } catch {
    return undefined; // which the schema refuses
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
