import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  readExactly,
  readSafetensorsFile,
  type SafetensorsTensor,
  writeSafetensorsFile,
} from "../../lib/io/safetensors_file.js";
import { FileError } from "../../lib/util/errors.js";

const test = suite<{ folder: string; path: string }>("safetensors file");

test.before.each((context) => {
  context.folder = fs.mkdtempSync(join(tmpdir(), "safetensors-"));
  context.path = join(context.folder, "model.safetensors");
});

test.after.each(({ folder }) => {
  fs.rmSync(folder, { recursive: true, force: true });
});

/** A tensor of the bytes first, first + 1, ... */
function tensor(dtype: string, shape: number[], byteLength: number, first: number): SafetensorsTensor {
  return {
    dtype,
    shape,
    bytes: Uint8Array.from({ length: byteLength }, (_, index) => first + index),
  };
}

function refuses(run: () => unknown, path: string, message: RegExp): void {
  assert.throws(run, (error: unknown) => {
    assert.instance(error, FileError);
    assert.match((error as Error).message, message);
    assert.ok((error as Error).message.includes(JSON.stringify(path)), (error as Error).message);
    return true;
  });
}

const SAMPLE = new Map([
  ["mask", { dtype: "BOOL", shape: [3], bytes: new Uint8Array([1, 0, 1]) }],
  ["w", tensor("F32", [2, 1], 8, 1)],
  ["step", tensor("I64", [], 8, 9)],
  ["h", tensor("BF16", [3], 6, 17)],
  ["none", tensor("BF16", [0, 4], 0, 0)],
  ["é\n😀", tensor("U8", [1], 1, 7)],
  ["\uffee", tensor("U8", [2], 2, 8)],
  ["b", tensor("F32", [1], 4, 23)],
]);

/** The bytes that the reference library (safetensors 0.8.0, Python) writes for `SAMPLE` with this metadata. */
const GOLDEN_METADATA = { note: 'a "quoted" text' };
const GOLDEN = Buffer.concat([
  Buffer.from("f801000000000000", "hex"),
  Buffer.from(
    String.raw`{"__metadata__":{"note":"a \"quoted\" text"},` +
      '"step":{"dtype":"I64","shape":[],"data_offsets":[0,8]},' +
      '"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},' +
      '"w":{"dtype":"F32","shape":[2,1],"data_offsets":[12,20]},' +
      '"h":{"dtype":"BF16","shape":[3],"data_offsets":[20,26]},' +
      '"none":{"dtype":"BF16","shape":[0,4],"data_offsets":[26,26]},' +
      String.raw`"é\n😀":{"dtype":"U8","shape":[1],"data_offsets":[26,27]},` +
      '"\uffee":{"dtype":"U8","shape":[2],"data_offsets":[27,29]},' +
      '"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[29,32]}}',
  ),
  Buffer.from(
    "090a0b0c0d0e0f10" + "1718191a" + "0102030405060708" + "111213141516" + "07" + "0809" + "010001",
    "hex",
  ),
]);

test("writes the bytes of the reference library, whatever the order of the map", ({ path }) => {
  writeSafetensorsFile(path, SAMPLE, GOLDEN_METADATA);
  assert.is(fs.readFileSync(path).toString("latin1"), GOLDEN.toString("latin1"));
  writeSafetensorsFile(path, new Map([...SAMPLE].reverse()), new Map(Object.entries(GOLDEN_METADATA)));
  assert.ok(fs.readFileSync(path).equals(GOLDEN));
});

test("reads back what it wrote, each tensor in an exact buffer of its own", ({ path }) => {
  const metadata = new Map([
    ["z", "last"],
    ["__proto__", "😀"],
    ["a", "first\u0000"],
  ]);
  writeSafetensorsFile(path, SAMPLE, metadata);
  const read = readSafetensorsFile(path);
  assert.equal(
    [...read.metadata],
    [...metadata].sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  assert.is(read.tensors.size, SAMPLE.size);
  const buffers = new Set<ArrayBufferLike>();
  for (const [name, { dtype, shape, bytes }] of SAMPLE) {
    const got = read.tensors.get(name)!;
    assert.is(got.dtype, dtype);
    assert.equal(got.shape, shape);
    assert.equal([...got.bytes], [...bytes]);
    assert.is(got.bytes.byteOffset, 0);
    assert.is(got.bytes.buffer.byteLength, bytes.byteLength);
    buffers.add(got.bytes.buffer);
  }
  assert.is(buffers.size, SAMPLE.size);
});

test("writes no metadata if there are none, and pads the header to 8 bytes", ({ path }) => {
  writeSafetensorsFile(path, new Map());
  assert.is(fs.readFileSync(path, "latin1"), "\x08\0\0\0\0\0\0\0{}      ");
  assert.is(readSafetensorsFile(path).tensors.size, 0);
  writeSafetensorsFile(path, new Map(), { only: "metadata" });
  assert.is(readSafetensorsFile(path).metadata.get("only"), "metadata");
});

test("writes only the viewed part of a larger buffer", ({ path }) => {
  const bytes = new Uint8Array([9, 9, 1, 2, 9]).subarray(2, 4);
  writeSafetensorsFile(path, new Map([["w", { dtype: "U8", shape: [2], bytes }]]));
  assert.equal([...readSafetensorsFile(path).tensors.get("w")!.bytes], [1, 2]);
});

test("leaves no other file, also after a refusal", ({ folder, path }) => {
  writeSafetensorsFile(path, SAMPLE);
  const bad = new Map([["w", tensor("F32", [2], 4, 0)]]);
  refuses(() => writeSafetensorsFile(path, bad), path, /bytes do not fit shape and dtype; expected 8 bytes/);
  assert.equal(fs.readdirSync(folder), ["model.safetensors"]);
  assert.is(readSafetensorsFile(path).tensors.size, SAMPLE.size);
});

const empty = tensor("U8", [0], 0, 0);
const UNWRITABLE: [
  name: string,
  tensors: [string, SafetensorsTensor][],
  metadata: object,
  message: RegExp,
][] = [
  ["the reserved name", [["__metadata__", empty]], {}, /tensor "__metadata__": the name is reserved/],
  ["an unknown dtype", [["w", tensor("F31", [0], 0, 0)]], {}, /tensor "w": unknown dtype "F31"/],
  ["a sub-byte dtype", [["w", tensor("F4", [2], 1, 0)]], {}, /sub-byte dtype is not supported "F4"/],
  [
    "a fractional size",
    [["w", tensor("U8", [1.5], 1, 0)]],
    {},
    /shape is not a list of non-negative integers/,
  ],
  ["a negative size", [["w", tensor("U8", [-1], 0, 0)]], {}, /shape is not a list of non-negative integers/],
  ["a size past 2^53", [["w", tensor("U8", [2 ** 53], 0, 0)]], {}, /not a list of non-negative integers/],
  ["a product that wraps", [["w", tensor("U8", [2 ** 32, 2 ** 32], 0, 0)]], {}, /overflows 2\^53 - 1/],
  ["a rank of 65", [["w", tensor("U8", Array(65).fill(1), 1, 0)]], {}, /rank 65 is above 64/],
  ["a name with an unpaired surrogate", [["\ud800", empty]], {}, /name has an unpaired surrogate/],
  [
    "a metadata key with an unpaired surrogate",
    [],
    { "\ud800": "" },
    /metadata .* has an unpaired surrogate/,
  ],
  [
    "a metadata value with an unpaired surrogate",
    [],
    { a: "\udc00" },
    /metadata "a" has an unpaired surrogate/,
  ],
  ["a number in the metadata", [], { epoch: 3 }, /metadata value of "epoch" is not a string; .*, got 3/],
  ["a header over the limit", [], { a: "x".repeat(100_000_001) }, /header is too large; .* 100000000 bytes/],
  ["a header over the limit in UTF-8 only", [], { a: "é".repeat(50_000_000) }, /header is too large/],
];

for (const [name, tensors, metadata, message] of UNWRITABLE) {
  test(`refuses to write ${name}`, ({ folder, path }) => {
    const write = () => writeSafetensorsFile(path, new Map(tensors), metadata as Record<string, string>);
    refuses(write, path, message);
    assert.equal(fs.readdirSync(folder), []);
  });
}

test("refuses a missing file, a folder and a path through a file", ({ folder, path }) => {
  refuses(() => readSafetensorsFile(path), path, /cannot be read \(ENOENT: no such file/);
  refuses(() => readSafetensorsFile(folder), folder, /not a regular file; expected a file, got a folder/);
  fs.writeFileSync(path, "");
  refuses(() => readSafetensorsFile(join(path, "x")), join(path, "x"), /ENOTDIR/);
  refuses(() => readSafetensorsFile(path), path, /too short for a header/);
});

test("refuses a pipe and a device without waiting", ({ path }) => {
  assert.is(spawnSync("mkfifo", [path]).status, 0);
  refuses(() => readSafetensorsFile(path), path, /not a regular file; .* got a pipe, socket or device/);
  refuses(() => readSafetensorsFile("/dev/zero"), "/dev/zero", /not a regular file/);
});

test("refuses every shorter and every longer file", ({ path }) => {
  for (let length = 0; length < GOLDEN.length; length++) {
    fs.writeFileSync(path, GOLDEN.subarray(0, length));
    refuses(() => readSafetensorsFile(path), path, /past the end of the file|too short|is zero/);
  }
  fs.writeFileSync(path, Buffer.concat([GOLDEN, Buffer.from("PK")]));
  refuses(() => readSafetensorsFile(path), path, /trailing bytes/);
});

test("a file that shrinks while it is read is noticed", ({ path }) => {
  fs.writeFileSync(path, "12345678");
  const handle = fs.openSync(path, "r");
  try {
    assert.equal([...readExactly("test", path, handle, 6, 2)], [0x37, 0x38]);
    fs.truncateSync(path, 7);
    const read = () => readExactly("test", path, handle, 6, 2);
    refuses(read, path, /file shrank while it was read; expected 2 bytes at 6, got 1/);
  } finally {
    fs.closeSync(handle);
  }
});

test("a huge size in the header allocates nothing", ({ path }) => {
  const header = Buffer.from('{"w":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  fs.writeFileSync(path, Buffer.concat([length, header]));
  refuses(() => readSafetensorsFile(path), path, /data reach past the end of the file; expected end <= 0/);
});

test.run();
