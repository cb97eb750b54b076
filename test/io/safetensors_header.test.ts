import { suite } from "uvu";
import * as assert from "uvu/assert";
import { byteCount, parseSafetensorsHeader, readHeaderLength } from "../../lib/io/safetensors_header.js";
import { FileError } from "../../lib/util/errors.js";

const PATH = "dir/model.safetensors";

/** A whole file: the length, the header (text, or raw bytes) and `dataBytes` bytes of data. */
function fileOf(header: string | Uint8Array, dataBytes = 0): Uint8Array {
  const json = Buffer.from(header as Uint8Array);
  const file = Buffer.alloc(8 + json.length + dataBytes, 1);
  file.writeBigUInt64LE(BigInt(json.length));
  file.set(json, 8);
  return file;
}

/** What the file reader does, on bytes in memory. */
function parse(file: Uint8Array) {
  const length = readHeaderLength("test", PATH, file.subarray(0, 8), file.length);
  return parseSafetensorsHeader("test", PATH, file.subarray(8, 8 + length), file.length);
}

function refuses(file: Uint8Array, message: RegExp): void {
  assert.throws(
    () => parse(file),
    (error: unknown) => {
      assert.instance(error, FileError);
      assert.match((error as Error).message, message);
      assert.ok((error as Error).message.includes(`test: "${PATH}": `));
      return true;
    },
  );
}

function lengthOnly(length: bigint, fileSize = 64): Uint8Array {
  const file = Buffer.alloc(fileSize);
  if (fileSize >= 8) file.writeBigUInt64LE(length);
  return file;
}

/** An entry without its braces' surroundings: `"name":{...}`. */
function entry(name: string, dtype: string, shape: string, offsets: string): string {
  return `"${name}":{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
}

const one = (dtype: string, shape: string, offsets: string, dataBytes: number) =>
  fileOf(`{${entry("w", dtype, shape, offsets)}}`, dataBytes);

function manyNames(count: number, offsets: string, dataBytes: number, shape: string): Uint8Array {
  const names = Array.from({ length: count }, (_, index) => entry(`n${index}`, "U8", shape, offsets));
  return fileOf(`{${names}}`, dataBytes);
}

const HOSTILE: [name: string, file: () => Uint8Array, message: RegExp][] = [
  ["an empty file", () => new Uint8Array(0), /too short for a header; expected at least 8 bytes, got 0/],
  ["a file of 7 bytes", () => new Uint8Array(7), /too short for a header/],
  [
    "a length past the end",
    () => lengthOnly(57n),
    /header reaches past the end of the file; .* 56 bytes, got 57/,
  ],
  ["a length over the limit", () => lengthOnly(100_000_001n), /header is too large/],
  ["a length of 2^64 - 1", () => lengthOnly(2n ** 64n - 1n), /too large; .*, got 18446744073709551615/],
  ["a length of 2^64 - 8", () => lengthOnly(2n ** 64n - 8n), /header is too large/],
  ["a length of 0", () => lengthOnly(0n, 8), /header length is zero/],
  ["invalid UTF-8", () => fileOf(Buffer.from('{"\xff":1}', "latin1")), /header is not valid UTF-8/],
  ["overlong UTF-8", () => fileOf(Buffer.from('{"\xc0\xaf":1}', "latin1")), /header is not valid UTF-8/],
  ["a surrogate in UTF-8", () => fileOf(Buffer.from('{"\xed\xa0\x80":1}', "latin1")), /not valid UTF-8/],
  ["a byte order mark", () => fileOf("\ufeff{}"), /header is not a JSON object at byte 0/],
  ["a header of spaces", () => fileOf("    "), /not a JSON object at byte 4; .*, got the end of the header/],
  [
    "a cut header",
    () => fileOf('{"w":{"dtype":"U8"'),
    /not valid JSON at byte 18; .*, got the end of the header/,
  ],
  ["a header cut in a string", () => fileOf('{"w'), /not valid JSON at byte 3; expected the end of a string/],
  ["a header cut behind a backslash", () => fileOf('{"w\\'), /not valid JSON .* got the end of the header/],
  ["a header that is no JSON", () => fileOf("\x80\x02}q\x00."), /header is not a JSON object/],
  ["a trailing comma", () => fileOf(`{${entry("w", "U8", "[]", "[0,1]")},}`, 1), /is not a JSON string/],
  ["single quotes", () => fileOf("{'w':1}"), /key in header is not a JSON string/],
  ["a missing colon", () => fileOf('{"w" {}}'), /header is not valid JSON at byte 5; expected ":"/],
  ["a raw control character in a string", () => fileOf('{"a\nb":{}}'), /key in header is not valid JSON/],
  ["an unknown escape", () => fileOf('{"\\x41":{}}'), /expected a string with valid escapes/],
  ["padding with NUL", () => fileOf("{}\0\0"), /goes on after its JSON at byte 2/],
  ["a second JSON value", () => fileOf("{}{}"), /goes on after its JSON/],
  ["a list at the top", () => fileOf("[]"), /header is not a JSON object/],
  ["a string at the top", () => fileOf('"w"'), /header is not a JSON object/],
  ["null at the top", () => fileOf("null"), /header is not a JSON object/],
  ["a number for a tensor", () => fileOf('{"w":1}'), /tensor "w" is not a JSON object/],
  ["ten names on one range", () => manyNames(10, "[0,16]", 16, "[16]"), /tensor "n1": data overlap/],
  ["100,000 names on 160 kB", () => manyNames(100_000, "[0,160000]", 160_000, "[160000]"), /data overlap/],
  [
    "a partial overlap",
    () => fileOf(`{${entry("a", "U8", "[4]", "[0,4]")},${entry("b", "U8", "[4]", "[3,7]")}}`, 7),
    /tensor "b": data overlap; expected begin = 4, got 3/,
  ],
  [
    "an empty tensor within another",
    () => fileOf(`{${entry("a", "U8", "[4]", "[0,4]")},${entry("b", "U8", "[0]", "[2,2]")}}`, 4),
    /tensor "b": data overlap/,
  ],
  [
    "a hole",
    () => fileOf(`{${entry("b", "U8", "[4]", "[5,9]")},${entry("a", "U8", "[4]", "[0,4]")}}`, 9),
    /tensor "b": hole before data; expected begin = 4, got 5/,
  ],
  ["a hole at the start", () => one("U8", "[2]", "[1,3]", 3), /tensor "w": hole before data/],
  ["trailing bytes", () => one("U8", "[2]", "[0,2]", 3), /trailing bytes after the last tensor/],
  ["trailing bytes without tensors", () => fileOf("{}", 1), /trailing bytes after the last tensor/],
  ["two bytes missing", () => one("U8", "[8]", "[0,8]", 6), /data reach past the end .* end <= 6, got 8/],
  ["begin past end", () => one("U8", "[0]", "[2,0]", 2), /begin is past end; .*, got \[2, 0\]/],
  [
    "offsets that do not fit the shape",
    () => one("F32", "[2,2]", "[0,12]", 12),
    /do not fit shape and dtype/,
  ],
  [
    "offsets that do not fit the dtype",
    () => one("F64", "[1]", "[0,4]", 4),
    /expected 8 bytes for F64 \[1\], got 4/,
  ],
  [
    "a product that wraps to 0",
    () => one("U8", "[4294967296,4294967296]", "[0,0]", 0),
    /overflows 2\^53 - 1/,
  ],
  [
    "a product that wraps to 4",
    () => one("U8", "[2147483649,8589934588]", "[0,4]", 4),
    /overflows 2\^53 - 1/,
  ],
  ["a wrapping product beside 0", () => one("U8", "[0,4294967296,4294967296]", "[0,0]", 0), /overflows/],
  [
    "a product that only wraps times the dtype",
    () => one("F64", "[2305843009213693]", "[0,0]", 0),
    /overflows/,
  ],
  ["one offset", () => one("U8", "[1]", "[0]", 1), /data_offsets is not a pair; .*, got \[0\]/],
  ["three offsets", () => one("U8", "[1]", "[0,1,1]", 1), /data_offsets has more than 2 numbers/],
  [
    "no offsets",
    () => fileOf('{"w":{"dtype":"U8","shape":[]}}', 1),
    /data_offsets is not a pair; .*, got none/,
  ],
  ["no shape", () => fileOf('{"w":{"dtype":"U8","data_offsets":[0,1]}}', 1), /shape is missing/],
  ["no dtype", () => fileOf('{"w":{"shape":[],"data_offsets":[0,1]}}', 1), /dtype is missing/],
  ["an unknown dtype", () => one("F31", "[1]", "[0,4]", 4), /tensor "w": unknown dtype "F31"/],
  ["a dtype in lower case", () => one("f32", "[1]", "[0,4]", 4), /unknown dtype "f32"/],
  ["the dtype __proto__", () => one("__proto__", "[1]", "[0,4]", 4), /unknown dtype "__proto__"/],
  ["a dtype that is no string", () => fileOf('{"w":{"dtype":8}}'), /dtype is not a JSON string/],
  [
    "a sub-byte dtype off a boundary",
    () => one("F4", "[3]", "[0,2]", 2),
    /sub-byte dtype is not supported "F4"/,
  ],
  ["an unknown field", () => fileOf('{"w":{"constructor":1}}'), /tensor "w": unknown field "constructor"/],
  [
    "a duplicate field",
    () => fileOf('{"w":{"dtype":"U8","dtype":"U8"}}'),
    /tensor "w": duplicate field "dtype"/,
  ],
  [
    "a duplicate name",
    () => fileOf(`{${entry("w", "U8", "[1]", "[0,1]")},${entry("w", "U8", "[1]", "[1,2]")}}`, 2),
    /duplicate tensor name "w"/,
  ],
  [
    "a duplicate name in another spelling",
    () => fileOf(`{${entry("w", "U8", "[1]", "[0,1]")},${entry("\\u0077", "U8", "[1]", "[1,2]")}}`, 2),
    /duplicate tensor name "w"/,
  ],
  ["duplicate metadata", () => fileOf('{"__metadata__":{},"__metadata__":{}}'), /duplicate __metadata__/],
  [
    "a duplicate metadata key",
    () => fileOf('{"__metadata__":{"a":"","a":""}}'),
    /duplicate metadata key "a"/,
  ],
  [
    "a number in the metadata",
    () => fileOf('{"__metadata__":{"epoch":3}}'),
    /metadata value is not a JSON string/,
  ],
  [
    "an object in the metadata",
    () => fileOf('{"__metadata__":{"a":{}}}'),
    /metadata value is not a JSON string/,
  ],
  [
    "null in the metadata",
    () => fileOf('{"__metadata__":{"a":null}}'),
    /metadata value is not a JSON string/,
  ],
  ["metadata that are a list", () => fileOf('{"__metadata__":[]}'), /__metadata__ is not a JSON object/],
  [
    "metadata in the shape of a tensor",
    () => fileOf(`{${entry("__metadata__", "U8", "[]", "[0,1]")}}`, 1),
    /metadata value/,
  ],
  ["2^53 + 1 as a size", () => one("U8", "[9007199254740993]", "[0,1]", 1), /integer past 2\^53 - 1/],
  [
    "2^53 as an offset",
    () => one("U8", "[1]", "[0,9007199254740992]", 1),
    /data_offsets has an integer past/,
  ],
  ["2^64 + 1 as an offset", () => one("U8", "[1]", "[0,18446744073709551617]", 1), /integer past 2\^53 - 1/],
  ["a size of 400 digits", () => one("U8", `[${"9".repeat(400)}]`, "[0,1]", 1), /integer past 2\^53 - 1/],
  [
    "1.0",
    () => one("U8", "[1.0]", "[0,1]", 1),
    /shape is not a list of plain non-negative integers .* got "\."/,
  ],
  ["1e2", () => one("U8", "[1e2]", "[0,100]", 100), /not a list of plain non-negative integers .* got "e"/],
  ["-0", () => one("U8", "[1]", "[-0,1]", 1), /data_offsets is not a list of plain .* got "-"/],
  ["-1", () => one("U8", "[-1]", "[0,1]", 1), /not a list of plain non-negative integers .* got "-"/],
  ["01", () => one("U8", "[01]", "[0,1]", 1), /shape has an integer with a leading zero/],
  ["NaN", () => one("U8", "[NaN]", "[0,1]", 1), /not a list of plain non-negative integers/],
  ["a string as a size", () => one("U8", '["1"]', "[0,1]", 1), /not a list of plain non-negative integers/],
  ["a number as the shape", () => one("U8", "1", "[0,1]", 1), /shape is not a list .* expected "\["/],
  ["a rank of 65", () => one("U8", `[${Array(65).fill(1)}]`, "[0,1]", 1), /shape has more than 64 numbers/],
  ["100,000 lists in each other", () => fileOf("[".repeat(100_000)), /header is not a JSON object/],
  ["100,000 objects in each other", () => fileOf('{"a":'.repeat(100_000)), /unknown field "a"/],
  ["100,000 lists for a shape", () => one("U8", "[".repeat(100_000), "[0,1]", 1), /shape is not a list/],
  [
    "an unpaired surrogate in a name",
    () => fileOf('{"\\ud800":{}}'),
    /key in header has an unpaired surrogate/,
  ],
  ["swapped surrogates", () => fileOf('{"\\udc00\\ud800":{}}'), /unpaired surrogate/],
  [
    "an unpaired surrogate in the metadata",
    () => fileOf('{"__metadata__":{"a":"\\udfff"}}'),
    /metadata value has an unpaired surrogate/,
  ],
];

const hostile = suite("safetensors header, hostile");
for (const [name, file, message] of HOSTILE) hostile(`refuses ${name}`, () => refuses(file(), message));

hostile("names only the start of a name that is very long", () => {
  const file = fileOf(`{${entry("n".repeat(1_000_000), "F31", "[]", "[0,1]")}}`, 1);
  refuses(file, /tensor "n{80}"\.\.\.: unknown dtype/);
});

hostile("refuses more than a million metadata entries", () => {
  const keys = Array.from({ length: 1_000_001 }, (_, index) => `"${index}":""`);
  refuses(fileOf(`{"__metadata__":{${keys}}}`), /more than 1000000 metadata keys/);
});

hostile.run();

const sound = suite("safetensors header, sound");

sound("loads a header without tensors", () => {
  const { entries, metadata, dataStart } = parse(fileOf("{}"));
  assert.is(entries.size + metadata.size, 0);
  assert.is(dataStart, 10);
});

sound("loads padding behind, white space in front and between, in any order of offsets", () => {
  const file = fileOf(
    `\n {"b" : ${entry("x", "F32", "[ 1 , 1 ]", "[2 ,6]").slice(4)},\t
    ${entry("a", "U8", "[2]", "[0,2]")}}  \r\n   `,
    6,
  );
  const { entries } = parse(file);
  assert.equal(
    [...entries],
    [
      ["b", { dtype: "F32", shape: [1, 1], begin: 2, end: 6 }],
      ["a", { dtype: "U8", shape: [2], begin: 0, end: 2 }],
    ],
  );
});

sound("loads rank 0 and zero sizes", () => {
  const scalar = entry("s", "F64", "[]", "[0,8]");
  const empty = [entry("e", "F64", "[3,0,5]", "[8,8]"), entry("f", "I8", "[0]", "[0,0]")];
  const { entries } = parse(fileOf(`{${[scalar, ...empty]}}`, 8));
  assert.equal(entries.get("s")!.shape, []);
  assert.equal(entries.get("e"), {
    dtype: "F64",
    shape: [3, 0, 5],
    begin: 8,
    end: 8,
  });
  assert.equal(entries.get("f")!.end, 0);
});

sound("loads names that objects already have, and the empty name", () => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", ""];
  const { entries } = parse(fileOf(`{${names.map((name) => entry(name, "U8", "[0]", "[0,0]"))}}`));
  assert.equal([...entries.keys()], names);
});

sound("loads metadata with escapes and any plane of Unicode", () => {
  const text = '\u0000\b\f\n\r\t"\\/é\u2028\ufeff😀';
  const spelled = fileOf(
    `{"__metadata__":{"__proto__":${JSON.stringify(text)},"a":"\\ud83d\\ude00\\u00E9"}}`,
  );
  const { metadata } = parse(spelled);
  assert.equal(
    [...metadata],
    [
      ["__proto__", text],
      ["a", "😀é"],
    ],
  );
});

sound("counts the bytes of every dtype", () => {
  const widths = {
    F64: 8,
    U64: 8,
    C64: 8,
    F32: 4,
    I32: 4,
    BF16: 2,
    F16: 2,
    I16: 2,
    F8_E4M3: 1,
    U8: 1,
    BOOL: 1,
  };
  for (const [dtype, width] of Object.entries(widths)) assert.is(byteCount(dtype, [3, 5]), 15 * width);
  assert.is(byteCount("U8", [Number.MAX_SAFE_INTEGER]), Number.MAX_SAFE_INTEGER);
  assert.match(String(byteCount("BF16", [2 ** 52])), /overflows/);
  assert.match(String(byteCount("F32", Array(64).fill(2 ** 52))), /overflows/);
});

sound.run();

const fuzz = suite("safetensors header, fuzz");

/** xorshift32: small, and the same on every machine. */
function xorshift(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

const TOKENS = [
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  '"',
  "\\",
  "\\u0061",
  "\\ud800",
  "0",
  "00",
  "-",
  ".",
  "e1",
  " ",
  "\0",
]
  .concat(["null", '"U8"', '"F64"', "9007199254740993", '"__metadata__":', '"shape":[0],', "\u00e9", "[[[["])
  .map((token) => Buffer.from(token));

/** `bytes` with one byte changed, a token put in, or a part cut out, doubled or moved. */
function mutate(bytes: Buffer, random: (limit: number) => number): Buffer {
  const at = random(bytes.length + 1);
  const to = Math.min(bytes.length, at + 1 + random(12));
  const [before, part, after] = [bytes.subarray(0, at), bytes.subarray(at, to), bytes.subarray(to)];
  const token = TOKENS[random(TOKENS.length)]!;
  switch (random(7)) {
    case 0: {
      const flipped = Buffer.from(bytes);
      if (at < bytes.length) flipped[at]! ^= 1 << random(8);
      return flipped;
    }
    case 1:
      return Buffer.concat([before, token, bytes.subarray(at)]);
    case 2:
      return Buffer.concat([before, token, after]);
    case 3:
      return Buffer.concat([before, after]);
    case 4:
      return Buffer.concat([before, part, part, after]);
    case 5:
      return Buffer.concat([after, part, before]);
    default: {
      const digit = Buffer.from(bytes);
      const place = digit.findIndex((byte, index) => index >= at && byte >= 0x30 && byte <= 0x39);
      if (place >= 0) digit[place] = 0x30 + random(10);
      return digit;
    }
  }
}

fuzz("20,000 mutations load whole or are refused, by a FileError", () => {
  const tensors = [entry("a.weight", "F32", "[2,3]", "[0,24]"), entry("b", "U8", "[]", "[24,25]")];
  const valid = Buffer.from(
    `{"__metadata__":{"k\\n":"v\u00e9"},${tensors},${entry("z", "BF16", "[0,7]", "[25,25]")}}   `,
  );
  const random = xorshift(0x9e3779b9);
  let loaded = 0;
  for (let round = 0; round < 20_000; round++) {
    let header: Buffer = valid;
    for (let count = 1 + (random(4) === 0 ? 2 : 0); count > 0; count--) header = mutate(header, random);
    const file = Buffer.from(fileOf(header, random(8) === 0 ? random(30) : 25));
    if (random(16) === 0) file[random(8)] = random(256);
    try {
      const { entries, dataStart } = parse(file);
      loaded++;
      let total = 0;
      for (const { dtype, shape, begin, end } of entries.values()) {
        assert.is(byteCount(dtype, shape), end - begin);
        total += end - begin;
      }
      assert.is(dataStart + total, file.length);
    } catch (error) {
      if (!(error instanceof FileError)) {
        assert.unreachable(`round ${round}: ${error}\n${header.toString("latin1")}`);
      }
    }
  }
  // Neither always valid nor always refused at the first byte.
  assert.ok(loaded > 500 && loaded < 10_000, `${loaded} loaded`);
});

fuzz.run();
