/**
 * Safetensors files as a whole. Bytes are little-endian and row-major, and pass through unconverted; BOOL bytes
 * other than 0 and 1 pass too.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { FileError, OutOfMemoryError, show } from "../util/errors.js";
import { asFileError, writeFileAtomic } from "./atomic_write.js";
import {
  byteCount,
  clip,
  DTYPE_BYTES,
  hasLoneSurrogate,
  LENGTH_BYTES,
  MAX_ENTRIES,
  MAX_HEADER_BYTES,
  METADATA_NAME,
  parseSafetensorsHeader,
  readHeaderLength,
} from "./safetensors_header.js";

/** One tensor of a file; `dtype` is the format's own name, such as "F32", "BF16" or "I64". */
export interface SafetensorsTensor {
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

/** Node refuses a single read of 2 GiB or more. */
const LARGEST_READ = 2 ** 30;

/** Tensors start at multiples of this; the reference library pads the header with spaces up to it. */
const ALIGNMENT = 8;

/**
 * Reads all tensors of a file. Each one gets an ArrayBuffer of its own, exactly as long as its bytes, so any
 * typed array fits on it. The whole header is validated against the size of the file before any is allocated.
 * @throws {FileError} naming `path` and the fault, if the file is missing, not a regular file, damaged or of
 * another format; {OutOfMemoryError} if a tensor does not fit into memory.
 */
export function readSafetensorsFile(path: string): {
  tensors: Map<string, SafetensorsTensor>;
  metadata: Map<string, string>;
} {
  const op = "readSafetensorsFile";
  return withRegularFile(op, path, (handle, fileSize) => {
    const start = readExactly(op, path, handle, 0, Math.min(fileSize, LENGTH_BYTES));
    const headerBytes = readHeaderLength(op, path, start, fileSize);
    const header = readExactly(op, path, handle, LENGTH_BYTES, headerBytes);
    const { entries, metadata, dataStart } = parseSafetensorsHeader(op, path, header, fileSize);
    const tensors = new Map<string, SafetensorsTensor>();
    for (const [name, { dtype, shape, begin, end }] of entries) {
      const bytes = readExactly(op, path, handle, dataStart + begin, end - begin);
      tensors.set(name, { dtype, shape, bytes });
    }
    return { tensors, metadata };
  });
}

/**
 * Writes tensors atomically (see `writeFileAtomic`). Equal input gives equal bytes, those of the reference
 * library: tensors by dtype, widest first, then by name, which keeps each aligned to its element size. Metadata
 * keys are sorted too; without any, the file has no `__metadata__`.
 * @param tensors  `bytes` holds exactly the elements of `shape`, little-endian and row-major
 * @throws {FileError} before anything is written if a dtype, shape, name or metadata value cannot be stored, or
 * the header would exceed 100,000,000 bytes; and whatever `writeFileAtomic` throws.
 */
export function writeSafetensorsFile(
  path: string,
  tensors: ReadonlyMap<string, Readonly<SafetensorsTensor>>,
  metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>> = {},
): void {
  const fail: Fail = (problem, expected, got) =>
    new FileError("writeSafetensorsFile", `${show(path)}: ${problem}`, expected, got);
  const ordered = sortByName(tensors).sort(([, a], [, b]) => dtypeOrder(a.dtype) - dtypeOrder(b.dtype));
  const pairs = sortByName(metadata instanceof Map ? metadata : Object.entries(metadata));
  const json = encodeHeader(fail, ordered, pairs);
  const headerBytes = Math.ceil(Buffer.byteLength(json) / ALIGNMENT) * ALIGNMENT;
  if (headerBytes > MAX_HEADER_BYTES) throw headerTooLarge(fail);
  const header = Buffer.alloc(headerBytes, " ");
  header.write(json);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileAtomic(path, [length, header, ...ordered.map(([, { bytes }]) => bytes)]);
}

/**
 * Runs `use` on the open file and its size in bytes.
 * @throws {FileError} naming `path` for each system error inside, such as ENOENT.
 */
export function withRegularFile<T>(
  op: string,
  path: string,
  use: (handle: number, fileSize: number) => T,
): T {
  const { handle, fileSize } = openRegularFile(op, path);
  try {
    return use(handle, fileSize);
  } catch (error) {
    throw asFileError(op, path, "cannot be read", error);
  } finally {
    closeSync(handle);
  }
}

/**
 * A file, open for reading, and its size in bytes; the caller closes it. Anything but a regular file is refused: to read a pipe
 * can wait for ever, and the size of a device means nothing.
 * @throws {FileError} naming `path` for each system error, such as ENOENT.
 */
export function openRegularFile(op: string, path: string): { handle: number; fileSize: number } {
  try {
    // O_NONBLOCK: opening a pipe without a writer would wait, too.
    const handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = fstatSync(handle);
    if (status.isFile()) return { handle, fileSize: status.size };
    closeSync(handle);
    const kind = status.isDirectory() ? "a folder" : "a pipe, socket or device";
    throw new FileError(op, `${show(path)}: not a regular file`, "a file", kind);
  } catch (error) {
    throw asFileError(op, path, "cannot be read", error);
  }
}

/**
 * `length` bytes of the file from `position` on, in an ArrayBuffer of exactly that length.
 * @throws {FileError} if the file ends earlier, because it shrank since its size was taken; {OutOfMemoryError}
 */
export function readExactly(
  op: string,
  path: string,
  handle: number,
  position: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  const bytes = allocate(op, path, length);
  let done = 0;
  while (done < length) {
    const count = readSync(handle, bytes, done, Math.min(length - done, LARGEST_READ), position + done);
    if (count === 0) {
      const expected = `${length} bytes at ${position}`;
      throw new FileError(op, `${show(path)}: file shrank while it was read`, expected, `${done}`);
    }
    done += count;
  }
  return bytes;
}

type Fail = (problem: string, expected?: string, got?: string) => FileError;

const DTYPE_ORDER = new Map([...DTYPE_BYTES.keys()].map((dtype, index) => [dtype, index]));

/** Unknown dtypes get any place: the header check refuses them by name. */
function dtypeOrder(dtype: string): number {
  return DTYPE_ORDER.get(dtype) ?? 0;
}

/** By UTF-8 bytes, as the reference library does; the order of JavaScript strings differs above U+D7FF. */
function sortByName<T>(named: Iterable<readonly [string, T]>): [string, T][] {
  const keyed = Array.from(named, ([name, value]) => ({
    key: Buffer.from(name),
    name,
    value,
  }));
  return keyed.sort((a, b) => Buffer.compare(a.key, b.key)).map(({ name, value }) => [name, value]);
}

/** The JSON of a header, every entry checked as the reader would. */
function encodeHeader(
  fail: Fail,
  tensors: readonly [string, Readonly<SafetensorsTensor>][],
  metadata: readonly [string, string][],
): string {
  for (const count of [tensors.length, metadata.length]) {
    if (count > MAX_ENTRIES) throw fail("too many entries", `at most ${MAX_ENTRIES}`, `${count}`);
  }
  let json = "{";
  const append = (text: string) => {
    if (json.length + text.length > MAX_HEADER_BYTES) throw headerTooLarge(fail);
    json += text;
  };
  metadata.forEach(([key, value], index) => {
    append(`${index === 0 ? `"${METADATA_NAME}":{` : ","}${encodeMetadata(fail, key, value)}`);
  });
  if (metadata.length > 0) append(tensors.length > 0 ? "}," : "}");
  let offset = 0;
  tensors.forEach(([name, tensor], index) => {
    const end = offset + tensor.bytes.byteLength;
    append(`${index === 0 ? "" : ","}${encodeEntry(fail, name, tensor, offset, end)}`);
    offset = end;
  });
  append("}");
  return json;
}

function encodeMetadata(fail: Fail, key: string, value: string): string {
  if (typeof value !== "string") {
    throw fail(`metadata value of ${clip(key)} is not a string`, "a string", show(value));
  }
  if (key.length + value.length > MAX_HEADER_BYTES) throw headerTooLarge(fail);
  if (hasLoneSurrogate(key) || hasLoneSurrogate(value)) {
    throw fail(`metadata ${clip(key)} has an unpaired surrogate`);
  }
  return `${JSON.stringify(key)}:${JSON.stringify(value)}`;
}

function encodeEntry(
  fail: Fail,
  name: string,
  tensor: SafetensorsTensor,
  begin: number,
  end: number,
): string {
  const { dtype, shape } = tensor;
  const what = `tensor ${clip(name)}`;
  if (name === METADATA_NAME) throw fail(`${what}: the name is reserved`);
  if (hasLoneSurrogate(name)) throw fail(`${what}: name has an unpaired surrogate`);
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw fail(`${what}: shape is not a list of non-negative integers`, undefined, show(shape));
  }
  const expected = byteCount(dtype, shape);
  if (typeof expected === "string") throw fail(`${what}: ${expected}`);
  if (expected !== end - begin) {
    const rule = `${expected} bytes for ${dtype} ${show(shape)}`;
    throw fail(`${what}: bytes do not fit shape and dtype`, rule, `${end - begin}`);
  }
  return `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${begin},${end}]}`;
}

function headerTooLarge(fail: Fail): FileError {
  return fail("header is too large", `at most ${MAX_HEADER_BYTES} bytes`);
}

function allocate(op: string, path: string, length: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch {
    throw new OutOfMemoryError(op, `${show(path)}: no memory for ${length} bytes`);
  }
}
