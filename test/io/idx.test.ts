import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type IdxDType, readIdx } from "../../lib/io/idx.js";
import { FileError } from "../../lib/util/errors.js";

const folder = fs.mkdtempSync(join(tmpdir(), "idx-"));
const path = join(folder, "images-idx");
const test = suite("idx");

test.after(() => {
  fs.rmSync(folder, { recursive: true, force: true });
});

function idx(code: number, sizes: number[], data: ArrayLike<number> = [], rank = sizes.length): Buffer {
  const header = Buffer.alloc(4 + 4 * sizes.length);
  header.set([0, 0, code, rank]);
  sizes.forEach((size, axis) => {
    header.writeUInt32BE(size, 4 + 4 * axis);
  });
  return Buffer.concat([header, Buffer.from(data as Uint8Array)]);
}

/** A new file each time: some file systems flush a file that is cut to nothing and written again, which is slow. */
function store(bytes: Uint8Array): void {
  fs.rmSync(path, { force: true });
  fs.writeFileSync(path, bytes);
}

function refuses(file: Uint8Array, message: RegExp): void {
  store(file);
  refusesPath(path, message);
}

function refusesPath(path: string, message: RegExp): void {
  assert.throws(
    () => readIdx(path),
    (error: unknown) => {
      assert.instance(error, FileError);
      assert.match((error as Error).message, message);
      assert.ok((error as Error).message.includes(JSON.stringify(path)), (error as Error).message);
      return true;
    },
  );
}

const ELEMENTS: [dtype: IdxDType, code: number, hex: string, values: number[]][] = [
  ["uint8", 0x08, "00ff7f", [0, 255, 127]],
  ["int8", 0x09, "00ff80", [0, -1, -128]],
  ["int16", 0x0b, "0102ffff8000", [258, -1, -32768]],
  ["int32", 0x0c, "01020304fffffffe80000000", [16909060, -2, -(2 ** 31)]],
  ["float32", 0x0d, "3f800000c020000000000001", [1, -2.5, 2 ** -149]],
  ["float64", 0x0e, "3ff0000000000000c004000000000000fff0000000000000", [1, -2.5, -Infinity]],
];

for (const [dtype, code, hex, values] of ELEMENTS) {
  test(`reads ${dtype}, plain and compressed`, () => {
    const file = idx(code, [1, 3], Buffer.from(hex, "hex"));
    for (const bytes of [file, gzipSync(file)]) {
      store(bytes);
      const array = readIdx(path);
      assert.is(array.dtype, dtype);
      assert.equal(array.shape, [1, 3]);
      assert.equal([...array.data], values);
      assert.is(array.data.byteOffset, 0);
      assert.is(array.data.buffer.byteLength, array.data.byteLength);
    }
  });
}

test("reads rank 1 and 3, and zero sizes", () => {
  store(idx(0x08, [2], [5, 6]));
  assert.equal([...readIdx(path).data], [5, 6]);
  store(idx(0x08, [2, 1, 2], [1, 2, 3, 4]));
  assert.equal(readIdx(path).shape, [2, 1, 2]);
  for (const bytes of [idx(0x0e, [0, 28, 28]), gzipSync(idx(0x0e, [0, 28, 28]))]) {
    store(bytes);
    assert.is(readIdx(path).data.length, 0);
  }
});

test("reads gzip with a file name in its header, and of more than one member", () => {
  const file = idx(0x08, [70_000], new Uint8Array(70_000).fill(3));
  const packed = gzipSync(file);
  const named = Buffer.concat([
    packed.subarray(0, 10),
    Buffer.from(`${"n".repeat(300)}\0`),
    packed.subarray(10),
  ]);
  named[3] = 8;
  const members = Buffer.concat([gzipSync(file.subarray(0, 50)), gzipSync(file.subarray(50))]);
  for (const bytes of [named, members]) {
    store(bytes);
    assert.is(readIdx(path).data.length, 70_000);
  }
});

const good = idx(0x08, [2, 3], [1, 2, 3, 4, 5, 6]);
const packed = gzipSync(good);

function changed(bytes: Uint8Array, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at < 0 ? copy.length + at : at]! ^= value;
  return copy;
}

const HOSTILE: [name: string, file: Uint8Array, message: RegExp][] = [
  ["an empty file", Buffer.alloc(0), /too short for a header; expected 4 bytes, got 0/],
  ["three bytes", good.subarray(0, 3), /too short for a header/],
  ["another magic", changed(good, 0, 1), /not an IDX file; expected two zero bytes first, got \[1, 0\]/],
  ["a ZIP file", Buffer.from("PK\x03\x04"), /not an IDX file/],
  ["type code 10", changed(good, 2, 2), /unknown type code; expected \[8, 9, 11, 12, 13, 14\], got 10/],
  ["type code 0", changed(good, 2, 8), /unknown type code/],
  ["rank 0", idx(0x08, [], [1]), /unsupported rank; expected 1 to 3, got 0/],
  ["rank 4", idx(0x08, [1, 1, 1, 1], [1]), /unsupported rank; expected 1 to 3, got 4/],
  ["rank 255", idx(0x08, [1], [1], 255), /unsupported rank/],
  ["cut sizes", idx(0x08, [1], [], 3), /too short for its sizes; expected 16 bytes, got 8/],
  ["one element missing", good.subarray(0, -1), /cut short; expected 18 bytes for uint8 \[2, 3\], got 17/],
  ["half an element missing", idx(0x0b, [2], [1, 2, 3]), /cut short/],
  ["no elements", good.subarray(0, 12), /cut short/],
  ["one byte too many", Buffer.concat([good, Buffer.alloc(1)]), /trailing bytes after the elements/],
  ["bytes behind zero elements", idx(0x08, [0, 4], [1]), /trailing bytes after the elements/],
  ["a product that wraps", idx(0x08, [2 ** 16, 2 ** 16, 1]), /file is too large/],
  ["the largest product", idx(0x0e, [2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 1]), /file is too large/],
  ["gzip cut in its header", packed.subarray(0, 6), /too short for a header/],
  ["gzip cut in its data", packed.subarray(0, -9), /cannot be unpacked \(Z_BUF_ERROR/],
  [
    "gzip with a false checksum",
    changed(packed, -8, 1),
    /cannot be unpacked \(Z_DATA_ERROR: incorrect data check/,
  ],
  ["gzip of another format", gzipSync("hello"), /not an IDX file/],
  ["gzip of a cut file", gzipSync(good.subarray(0, -1)), /file is cut short/],
  [
    "gzip of too long a file",
    gzipSync(Buffer.concat([good, good])),
    /unpack to more than the IDX header declares/,
  ],
  [
    "a gzip bomb",
    gzipSync(Buffer.concat([good, Buffer.alloc(2 ** 25)])),
    /more than the IDX header declares/,
  ],
  ["a gzip bomb that admits it", gzipSync(idx(0x08, [2 ** 31])), /file is too large/],
  ["zeros behind gzip", Buffer.concat([packed, Buffer.alloc(9)]), /trailing bytes after the gzip data/],
  ["text behind gzip", Buffer.concat([packed, Buffer.from("text")]), /cannot be unpacked/],
  ["gzip in gzip", gzipSync(packed), /not an IDX file/],
];

for (const [name, file, message] of HOSTILE) test(`refuses ${name}`, () => refuses(file, message));

test("refuses a missing file and a folder", () => {
  refusesPath(join(folder, "missing"), /cannot be read \(ENOENT/);
  refusesPath(folder, /not a regular file; expected a file, got a folder/);
});

test("refuses a file over 2 GiB before reading it", () => {
  store(good);
  fs.truncateSync(path, 2 ** 31);
  refusesPath(path, /file is too large; expected at most 2147483647 bytes, got 2147483648/);
  fs.rmSync(path);
});

test("2,000 mutations load whole or are refused, by a FileError", () => {
  let state = 0x2545f491;
  const random = (limit: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
  let loaded = 0;
  for (let round = 0; round < 2000; round++) {
    const seed = round % 2 === 0 ? good : packed;
    const file = changed(seed, random(seed.length), 1 << random(8));
    store(random(4) === 0 ? file.subarray(0, random(file.length)) : file);
    try {
      const { shape, data } = readIdx(path);
      assert.is(
        data.length,
        shape.reduce((product, size) => product * size, 1),
      );
      loaded++;
    } catch (error) {
      if (!(error instanceof FileError)) assert.unreachable(`round ${round}: ${error}`);
    }
  }
  assert.ok(loaded > 100 && loaded < 1500, `${loaded} loaded`);
});

test.run();
