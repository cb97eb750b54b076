/**
 * IDX files, the format of MNIST: two zero bytes, a type code, the rank, one big-endian 32-bit size per
 * dimension, then the big-endian elements in row-major order. Plain or compressed with gzip.
 */
import { endianness } from "node:os";
import { constants, gunzipSync } from "node:zlib";
import { FileError, show } from "../util/errors.js";
import { asFileError } from "./atomic_write.js";
import { readExactly, withRegularFile } from "./safetensors_file.js";

export type IdxData = Uint8Array | Int8Array | Int16Array | Int32Array | Float32Array | Float64Array;
export type IdxDType = "uint8" | "int8" | "int16" | "int32" | "float32" | "float64";

export interface IdxArray {
  dtype: IdxDType;
  shape: number[];
  data: IdxData;
}

interface ElementType {
  dtype: IdxDType;
  array: {
    new (buffer: ArrayBuffer): IdxData;
    readonly BYTES_PER_ELEMENT: number;
  };
}

/** By type code; 0x0A is not assigned. */
const TYPES: ReadonlyMap<number, ElementType> = new Map<number, ElementType>([
  [0x08, { dtype: "uint8", array: Uint8Array }],
  [0x09, { dtype: "int8", array: Int8Array }],
  [0x0b, { dtype: "int16", array: Int16Array }],
  [0x0c, { dtype: "int32", array: Int32Array }],
  [0x0d, { dtype: "float32", array: Float32Array }],
  [0x0e, { dtype: "float64", array: Float64Array }],
]);

const MAX_RANK = 3;
/** Compressed bytes that are unpacked to see the header: some, as a gzip header can hold a file name. */
const GZIP_PEEK_BYTES = 4096;
/** Largest file, plain or unpacked, in bytes: 2 GiB - 1. */
const MAX_FILE_BYTES = 2 ** 31 - 1;

type Fail = (problem: string, expected?: string, got?: string) => FileError;

/**
 * Reads an IDX array of rank 1 to 3; sizes may be zero. A gzip bomb costs no more than its own claim: nothing
 * is unpacked past the size that the header declares, and that is below 2 GiB.
 * @throws {FileError} naming `path`, if the file is missing, not a regular file, of another format or type,
 * damaged, or not exactly as long as its header says.
 */
export function readIdx(path: string): IdxArray {
  const op = "readIdx";
  const fail: Fail = (problem, expected, got) =>
    new FileError(op, `${show(path)}: ${problem}`, expected, got);
  const stored = withRegularFile(op, path, (handle, fileSize) => {
    requireSmall(fail, fileSize);
    return readExactly(op, path, handle, 0, fileSize);
  });
  const isGzip = stored[0] === 0x1f && stored[1] === 0x8b;
  try {
    const { type, shape, dataStart, fileBytes } = readHeader(fail, isGzip ? unpackStart(stored) : stored);
    const bytes = isGzip ? unpack(fail, stored, fileBytes) : stored;
    if (bytes.byteLength !== fileBytes) {
      const problem =
        bytes.byteLength < fileBytes ? "file is cut short" : "trailing bytes after the elements";
      throw fail(problem, `${fileBytes} bytes for ${type.dtype} ${show(shape)}`, `${bytes.byteLength}`);
    }
    return {
      dtype: type.dtype,
      shape,
      data: decode(type, bytes.subarray(dataStart)),
    };
  } catch (error) {
    throw asFileError(op, path, "cannot be unpacked", error);
  }
}

function readHeader(
  fail: Fail,
  start: Uint8Array,
): {
  type: ElementType;
  shape: number[];
  dataStart: number;
  fileBytes: number;
} {
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  if (start.byteLength < 4) throw fail("file is too short for a header", "4 bytes", `${start.byteLength}`);
  if (view.getUint16(0) !== 0)
    throw fail("not an IDX file", "two zero bytes first", show([...start.subarray(0, 2)]));
  const type = TYPES.get(start[2]!);
  if (type === undefined) throw fail("unknown type code", show([...TYPES.keys()]), `${start[2]}`);
  const rank = start[3]!;
  if (rank < 1 || rank > MAX_RANK) throw fail("unsupported rank", `1 to ${MAX_RANK}`, `${rank}`);
  const dataStart = 4 + 4 * rank;
  if (start.byteLength < dataStart) {
    throw fail("file is too short for its sizes", `${dataStart} bytes`, `${start.byteLength}`);
  }
  const shape = Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis));
  // At most 2^99, so nothing wraps; float64 rounding sets in far above any size that passes.
  const fileBytes = dataStart + shape.reduce((product, size) => product * size, type.array.BYTES_PER_ELEMENT);
  requireSmall(fail, fileBytes);
  return { type, shape, dataStart, fileBytes };
}

function requireSmall(fail: Fail, bytes: number): void {
  if (bytes > MAX_FILE_BYTES) throw fail("file is too large", `at most ${MAX_FILE_BYTES} bytes`, `${bytes}`);
}

/** The first unpacked bytes: with a sync flush, cut input is no error. */
function unpackStart(stored: Uint8Array): Uint8Array {
  return gunzipSync(stored.subarray(0, GZIP_PEEK_BYTES), {
    finishFlush: constants.Z_SYNC_FLUSH,
  });
}

function unpack(fail: Fail, stored: Uint8Array, fileBytes: number): Uint8Array {
  try {
    // With `info`, which the type declarations leave out of the result, the engine tells what it consumed.
    const options = {
      maxOutputLength: fileBytes,
      chunkSize: 2 ** 18,
      info: true,
    };
    const { buffer, engine } = gunzipSync(stored, options) as unknown as GunzipInfo;
    if (engine.bytesWritten < stored.byteLength) {
      throw fail(
        "trailing bytes after the gzip data",
        `${engine.bytesWritten} bytes`,
        `${stored.byteLength}`,
      );
    }
    return buffer;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_BUFFER_TOO_LARGE") throw error;
    throw fail("gzip data unpack to more than the IDX header declares", `${fileBytes} bytes`);
  }
}

interface GunzipInfo {
  buffer: Buffer;
  engine: { bytesWritten: number };
}

/** A copy of the big-endian elements, in the machine's byte order. */
function decode({ array }: ElementType, elements: Uint8Array): IdxData {
  const { buffer } = new Uint8Array(elements);
  const bytes = Buffer.from(buffer);
  if (endianness() === "LE") {
    if (array.BYTES_PER_ELEMENT === 2) bytes.swap16();
    if (array.BYTES_PER_ELEMENT === 4) bytes.swap32();
    if (array.BYTES_PER_ELEMENT === 8) bytes.swap64();
  }
  return new array(buffer);
}
