/**
 * The header of a safetensors file: an 8-byte little-endian length, then that many bytes of JSON which map each
 * tensor's name to `{"dtype", "shape", "data_offsets": [begin, end]}`, then the tensors' bytes, gapless.
 *
 * `JSON.parse` is not used: it merges duplicate names, rounds integers past 2^53 and takes `1.0` for `1`. The
 * grammar of a header is fixed, so the scanner below accepts that grammar only. It never recurses, hence no
 * depth of nesting can overflow the stack, and it passes over the bytes once.
 */
import { isUtf8 } from "node:buffer";
import { FileError, show } from "../util/errors.js";

/** One tensor: its place is [begin, end) in bytes, counted from `dataStart`. */
export interface SafetensorsEntry {
  dtype: string;
  shape: number[];
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  entries: Map<string, SafetensorsEntry>;
  metadata: Map<string, string>;
  /** Where the tensors' bytes start, in bytes from the start of the file. */
  dataStart: number;
}

/** Bytes of the length in front of the header. */
export const LENGTH_BYTES = 8;
/** The reference library's limit for a header, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Most tensors, and most metadata entries, of a file; a Map stops at 2^24. */
export const MAX_ENTRIES = 1_000_000;
/** Most dimensions of a tensor, as in NumPy and PyTorch. */
export const MAX_RANK = 64;
/** The one name that no tensor can have. */
export const METADATA_NAME = "__metadata__";

/** Bytes per element of each dtype, in the order in which the reference library sorts tensors when it writes. */
export const DTYPE_BYTES: ReadonlyMap<string, number> = new Map([
  ["U64", 8],
  ["I64", 8],
  ["F64", 8],
  ["C64", 8],
  ["F32", 4],
  ["U32", 4],
  ["I32", 4],
  ["BF16", 2],
  ["F16", 2],
  ["U16", 2],
  ["I16", 2],
  ["F8_E5M2FNUZ", 1],
  ["F8_E4M3FNUZ", 1],
  ["F8_E8M0", 1],
  ["F8_E4M3", 1],
  ["F8_E5M2", 1],
  ["I8", 1],
  ["U8", 1],
  ["BOOL", 1],
]);

/** Types whose elements do not start on a byte boundary. */
const SUB_BYTE_DTYPES = new Set(["F4", "F6_E2M3", "F6_E3M2", "PackedI4", "PackedU4"]);

/**
 * The length of the header, from the first bytes of a file.
 * @param start     the first 8 bytes, or fewer if the file has fewer
 * @param fileSize  bytes of the whole file
 * @throws {FileError} if the length is 0, past the end of the file or above 100,000,000.
 */
export function readHeaderLength(op: string, path: string, start: Uint8Array, fileSize: number): number {
  const fail = (problem: string, expected: string, got: string) =>
    new FileError(op, `${show(path)}: ${problem}`, expected, got);
  if (fileSize < LENGTH_BYTES || start.byteLength < LENGTH_BYTES) {
    throw fail("file is too short for a header", `at least ${LENGTH_BYTES} bytes`, `${fileSize}`);
  }
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  if (length === 0n) throw fail("header length is zero", "at least 2 bytes", "0");
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw fail("header is too large", `at most ${MAX_HEADER_BYTES} bytes`, `${length}`);
  }
  const rest = fileSize - LENGTH_BYTES;
  if (Number(length) > rest) {
    throw fail("header reaches past the end of the file", `at most ${rest} bytes`, `${length}`);
  }
  return Number(length);
}

/**
 * Reads a header and checks every promise the format makes: each tensor's offsets fit its shape and dtype, and
 * the tensors together cover the rest of the file with no overlap, hole or trailing byte.
 * @param header    the JSON bytes, `readHeaderLength` of them
 * @param fileSize  bytes of the whole file
 * @throws {FileError} naming `path`, the tensor and the broken rule.
 */
export function parseSafetensorsHeader(
  op: string,
  path: string,
  header: Uint8Array,
  fileSize: number,
): SafetensorsHeader {
  const dataStart = LENGTH_BYTES + header.byteLength;
  const scanner = new HeaderScanner(op, path, header);
  if (!isUtf8(header)) throw scanner.fail("header is not valid UTF-8");
  const entries = new Map<string, SafetensorsEntry>();
  const metadata = new Map<string, string>();
  let hasMetadata = false;
  scanner.fields("header", (name) => {
    if (name === METADATA_NAME) {
      if (hasMetadata) throw scanner.fail(`duplicate ${METADATA_NAME}`);
      hasMetadata = true;
      scanner.fields(METADATA_NAME, (key) => {
        requireRoom(scanner, metadata, key, "metadata key");
        metadata.set(key, scanner.string("metadata value"));
      });
    } else {
      requireRoom(scanner, entries, name, "tensor name");
      entries.set(name, readEntry(scanner, name, fileSize - dataStart));
    }
  });
  scanner.end();
  checkCover(scanner, entries, fileSize - dataStart);
  return { entries, metadata, dataStart };
}

/**
 * Bytes of a tensor, or what is wrong with its shape. Zero dimensions do not hide a product of the others that
 * cannot be represented: strides are such products.
 */
export function byteCount(dtype: string, shape: readonly number[]): number | string {
  const itemBytes = DTYPE_BYTES.get(dtype);
  if (itemBytes === undefined) {
    const kind = SUB_BYTE_DTYPES.has(dtype) ? "sub-byte dtype is not supported" : "unknown dtype";
    return `${kind} ${clip(dtype)}`;
  }
  if (shape.length > MAX_RANK) return `rank ${shape.length} is above ${MAX_RANK}`;
  let extent = itemBytes;
  for (const size of shape) {
    if (size !== 0) extent *= size;
    // Checked in each step: up to 2^53 - 1 the product is exact, and it only ever grows.
    if (extent > Number.MAX_SAFE_INTEGER) return `size of shape ${show(shape)} overflows 2^53 - 1 bytes`;
  }
  return shape.includes(0) ? 0 : extent;
}

/** A name from a file as an error message shows it: quoted, and cut where it is absurdly long. */
export function clip(text: string): string {
  return text.length > 80 ? `${show(text.slice(0, 80))}...` : show(text);
}

function requireRoom(scanner: HeaderScanner, map: Map<string, unknown>, key: string, what: string): void {
  if (map.has(key)) throw scanner.fail(`duplicate ${what} ${clip(key)}`);
  if (map.size === MAX_ENTRIES) throw scanner.fail(`more than ${MAX_ENTRIES} ${what}s`);
}

function readEntry(scanner: HeaderScanner, name: string, dataBytes: number): SafetensorsEntry {
  const tensor = `tensor ${clip(name)}`;
  const read: { dtype?: string; shape?: number[]; data_offsets?: number[] } = {};
  scanner.fields(tensor, (field) => {
    if (Object.hasOwn(read, field)) throw scanner.fail(`${tensor}: duplicate field ${clip(field)}`);
    if (field === "dtype") read.dtype = scanner.string(field);
    else if (field === "shape") read.shape = scanner.integers(field, MAX_RANK);
    else if (field === "data_offsets") read.data_offsets = scanner.integers(field, 2);
    else throw scanner.fail(`${tensor}: unknown field ${clip(field)}`);
  });
  const { dtype, shape, data_offsets: offsets } = read;
  if (dtype === undefined) throw scanner.fail(`${tensor}: dtype is missing`);
  if (shape === undefined) throw scanner.fail(`${tensor}: shape is missing`);
  if (offsets?.length !== 2) {
    const got = offsets === undefined ? "none" : show(offsets);
    throw scanner.fail(`${tensor}: data_offsets is not a pair`, "[begin, end]", got);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw scanner.fail(`${tensor}: begin is past end`, "begin <= end", show(offsets));
  if (end > dataBytes) {
    throw scanner.fail(`${tensor}: data reach past the end of the file`, `end <= ${dataBytes}`, `${end}`);
  }
  const bytes = byteCount(dtype, shape);
  if (typeof bytes === "string") throw scanner.fail(`${tensor}: ${bytes}`);
  if (bytes !== end - begin) {
    const expected = `${bytes} bytes for ${dtype} ${show(shape)}`;
    throw scanner.fail(`${tensor}: data_offsets do not fit shape and dtype`, expected, `${end - begin}`);
  }
  return { dtype, shape, begin, end };
}

function checkCover(scanner: HeaderScanner, entries: Map<string, SafetensorsEntry>, dataBytes: number): void {
  const ordered = [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const [name, { begin, end }] of ordered) {
    const expected = `begin = ${covered}`;
    if (begin < covered) throw scanner.fail(`tensor ${clip(name)}: data overlap`, expected, `${begin}`);
    if (begin > covered) throw scanner.fail(`tensor ${clip(name)}: hole before data`, expected, `${begin}`);
    covered = end;
  }
  if (covered < dataBytes) {
    throw scanner.fail("trailing bytes after the last tensor", `${covered} bytes of data`, `${dataBytes}`);
  }
}

const SPACE = 0x20;
const QUOTE = 0x22;
const ZERO = 0x30;
const BACKSLASH = 0x5c;

/** Walks over the JSON bytes of a header. Every method skips the white space in front of what it reads. */
class HeaderScanner {
  private readonly bytes: Buffer;
  private at = 0;

  constructor(
    private readonly op: string,
    private readonly path: string,
    header: Uint8Array,
  ) {
    this.bytes = Buffer.from(header.buffer, header.byteOffset, header.byteLength);
  }

  fail(problem: string, expected?: string, got?: string): FileError {
    return new FileError(this.op, `${show(this.path)}: ${problem}`, expected, got);
  }

  /** An object; `readValue` is called behind each `"key":`. */
  fields(what: string, readValue: (key: string) => void): void {
    if (!this.take("{")) throw this.unexpected(`${what} is not a JSON object`, '"{"');
    if (this.take("}")) return;
    do {
      const key = this.string(`key in ${what}`);
      if (!this.take(":")) throw this.unexpected(`${what} is not valid JSON`, '":"');
      readValue(key);
    } while (this.take(","));
    if (!this.take("}")) throw this.unexpected(`${what} is not valid JSON`, '"," or "}"');
  }

  /** A list of at most `limit` non-negative integers, all of them exact. */
  integers(what: string, limit: number): number[] {
    const values: number[] = [];
    const problem = `${what} is not a list of plain non-negative integers`;
    if (!this.take("[")) throw this.unexpected(problem, '"["');
    if (this.take("]")) return values;
    do {
      if (values.length === limit) throw this.fail(`${what} has more than ${limit} numbers`);
      values.push(this.integer(what, problem));
    } while (this.take(","));
    // Here "1.0" and "1e2" stumble, behind their first digits.
    if (!this.take("]")) throw this.unexpected(problem, '"," or "]"');
    return values;
  }

  string(what: string): string {
    if (!this.take('"')) throw this.unexpected(`${what} is not a JSON string`, "'\"'");
    const { bytes } = this;
    const start = this.at;
    let escaped = false;
    for (; bytes[this.at] !== QUOTE; this.at++) {
      // Also true past the end, where bytes[at] is undefined.
      if (!(bytes[this.at]! >= SPACE))
        throw this.unexpected(`${what} is not valid JSON`, "the end of a string");
      if (bytes[this.at] === BACKSLASH) {
        escaped = true;
        this.at++;
      }
    }
    this.at++;
    if (!escaped) return bytes.toString("utf8", start, this.at - 1);
    return this.unescape(what, bytes.toString("utf8", start - 1, this.at));
  }

  /** Only padding may follow. */
  end(): void {
    this.skipSpace();
    if (this.at < this.bytes.length) throw this.unexpected("header goes on after its JSON", "spaces");
  }

  private integer(what: string, problem: string): number {
    this.skipSpace();
    const start = this.at;
    let value = 0;
    for (let digit: number; (digit = this.bytes[this.at]! - ZERO) >= 0 && digit <= 9; this.at++) {
      value = value * 10 + digit;
      if (value > Number.MAX_SAFE_INTEGER) throw this.fail(`${what} has an integer past 2^53 - 1`);
    }
    const digits = this.at - start;
    if (digits === 0) throw this.unexpected(problem, "a digit");
    if (digits > 1 && this.bytes[start] === ZERO)
      throw this.fail(`${what} has an integer with a leading zero`);
    return value;
  }

  private unescape(what: string, quoted: string): string {
    let text: string;
    try {
      // For a single string JSON.parse is as strict as can be: it merges and rounds nothing.
      text = JSON.parse(quoted);
    } catch {
      throw this.fail(`${what} is not valid JSON`, "a string with valid escapes", clip(quoted));
    }
    if (hasLoneSurrogate(text)) throw this.fail(`${what} has an unpaired surrogate`);
    return text;
  }

  private take(character: string): boolean {
    this.skipSpace();
    if (this.bytes[this.at] !== character.charCodeAt(0)) return false;
    this.at++;
    return true;
  }

  private skipSpace(): void {
    for (let byte = this.bytes[this.at]; byte === SPACE || byte === 9 || byte === 10 || byte === 13; ) {
      byte = this.bytes[++this.at];
    }
  }

  private unexpected(problem: string, expected: string): FileError {
    const byte = this.bytes[this.at];
    const got = byte === undefined ? "the end of the header" : show(String.fromCharCode(byte));
    return this.fail(`${problem} at byte ${this.at}`, expected, got);
  }
}

/** Such text has no UTF-8 form, so it cannot come from a valid header nor go into one. */
export function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}
