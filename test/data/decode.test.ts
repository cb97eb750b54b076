/** Image files of all kinds, beside what Pillow 12.3 makes of them; and hostile ones. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeFile, type Image } from "../../lib/data/index.js";
import { FileError } from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { rejects } from "../helpers/rejects.js";
import { temporaryFolder } from "../helpers/temporary.js";

const decoding = suite("decode");
const work = temporaryFolder();

/** bytes: the file; shape: height, width; RGB and L: what convert gives. All in base64; written by a script with Pillow. */
type Fixture = { bytes: string; shape: [number, number]; RGB: string; L?: string };
const fixtures: Record<string, Fixture> = JSON.parse(
  readFileSync(join(packageRoot(), "test/fixtures/pillow_images.json"), "utf8"),
);
/** Two kinds where the difference is meant: see decodeFile. */
const DIFFERENT = ["grey16.png", "cmyk.jpg"];

function write(name: string, bytes: Uint8Array | string): string {
  const path = join(work, name);
  writeFileSync(path, bytes);
  return path;
}

const fixture = (name: string) => write(name, Buffer.from(fixtures[name].bytes, "base64"));
const equalBytes = (image: Image, expected: string, what: string) =>
  assert.is(Buffer.compare(image.data, Buffer.from(expected, "base64")), 0, what);

for (const [name, { shape, RGB, L }] of Object.entries(fixtures)) {
  decoding(`${name} as Pillow converts it`, async () => {
    const path = fixture(name);
    const colour = await decodeFile(path, 3);
    assert.equal([colour.height, colour.width, colour.channels], [...shape, 3]);
    if (!DIFFERENT.includes(name)) equalBytes(colour, RGB, "convert('RGB')");
    if (L) equalBytes(await decodeFile(path, 1), L, "convert('L')");
  });
}

decoding("16 bits keep their upper 8", async () => {
  const { data } = await decodeFile(fixture("grey16.png"), 1);
  // the file holds 5000 x + 77 y
  assert.equal(
    [...data.subarray(12, 18)],
    [0, 1, 2, 3, 4, 5].map((x) => (5000 * x + 77) >> 8),
  );
});

decoding("CMYK becomes red, green and blue close to Pillow's", async () => {
  const { data } = await decodeFile(fixture("cmyk.jpg"), 3);
  const expected = Buffer.from(fixtures["cmyk.jpg"].RGB, "base64");
  const mean = data.reduce((sum, value, k) => sum + Math.abs(value - expected[k]), 0) / data.length;
  assert.ok(mean < 20, `mean difference ${mean}`);
});

decoding("upright: turned as the EXIF orientation says", async () => {
  const path = fixture("turned.jpg");
  const [lying, upright] = [await decodeFile(path, 3), await decodeFile(path, 3, { upright: true })];
  assert.equal([upright.height, upright.width], [lying.width, lying.height]);
  const corner = (image: Image, row: number, column: number) =>
    [0, 1, 2].map((c) => image.data[(row * image.width + column) * 3 + c]);
  assert.equal(corner(upright, 0, upright.width - 1), corner(lying, 0, 0)); // a quarter to the right
});

decoding("background: what shows through", async () => {
  const path = fixture("alpha.png"); // from transparent at the left to nearly opaque
  for (const [background, value] of [
    ["black", 0],
    ["white", 255],
  ] as const)
    assert.equal([...(await decodeFile(path, 3, { background })).data.subarray(0, 3)], [value, value, value]);
});

/** The checksum of PNG chunks. */
function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** A whole PNG whose header claims another size. */
function resized(png: Uint8Array, width: number, height: number): Buffer {
  const bytes = Buffer.from(png);
  bytes.writeUInt32BE(width, 16);
  bytes.writeUInt32BE(height, 20);
  bytes.writeUInt32BE(crc32(bytes.subarray(12, 29)), 29);
  return bytes;
}

const hostile: [string, () => string | Promise<string>, RegExp][] = [
  [
    "65,535 x 65,535 pixels",
    () => write("huge.png", resized(bytesOf("rgb.png"), 65535, 65535)),
    /pixel limit/,
  ],
  [
    "an SVG of 2^30 pixels",
    () => write("huge.svg", '<svg xmlns="http://www.w3.org/2000/svg" width="32768" height="32768"/>'),
    /whole image/,
  ],
  ["rows that are missing", () => write("rows.png", resized(bytesOf("rgb.png"), 12, 40)), /whole image/],
  ["a wrong checksum", () => write("crc.png", flipped(bytesOf("rgb.png"), 45)), /whole image/],
  ["an empty file", () => write("empty.jpg", ""), /is empty/],
  ["text", () => write("text.jpg", "no image at all"), /unsupported image format/],
  ["a folder of such a name", () => folder("folder.jpg"), /not a regular file/],
  ["a pipe", () => pipe("pipe.jpg"), /not a regular file/],
  ["a link that leads nowhere", () => link("link.jpg", "nothing"), /ENOENT/],
  ["a link to itself", () => link("loop.jpg", "loop.jpg"), /ELOOP/],
  ...[3, 30, 160, 400, 600].map((length): [string, () => string, RegExp] => [
    `a JPEG cut after ${length} bytes`,
    () => write(`cut${length}.jpg`, bytesOf("photo.jpg").subarray(0, length)),
    /is no whole image/,
  ]),
];
for (const [name, make, message] of hostile) {
  decoding(`${name} is refused by name`, async () => {
    const path = await make();
    const error = await rejects(decodeFile(path, 3), FileError, message);
    assert.ok(error.message.includes(path), error.message);
  });
}

decoding("the contents count, not the suffix", async () => {
  const path = write("png_inside.jpg", bytesOf("rgb.png"));
  equalBytes(await decodeFile(path, 3), fixtures["rgb.png"].RGB, "pixels");
});

function bytesOf(name: string): Buffer {
  return Buffer.from(fixtures[name].bytes, "base64");
}
function flipped(bytes: Buffer, at: number): Buffer {
  bytes[at] ^= 1;
  return bytes;
}
function folder(name: string): string {
  mkdirSync(join(work, name));
  return join(work, name);
}
function pipe(name: string): string {
  execFileSync("mkfifo", [join(work, name)]);
  return join(work, name);
}
function link(name: string, target: string): string {
  symlinkSync(target, join(work, name));
  return join(work, name);
}

decoding.run();
