/** Parts of JPEG files are decoded alone: each byte must be that of the same cut from the whole image, as sharp decodes it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp, { type JpegOptions } from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { greyOf } from "../../lib/data/augment/colour.js";
import { openImage } from "../../lib/data/decode.js";
import { FileError } from "../../lib/index.js";
import { addonInfo } from "../../lib/native/addon.js";
import { philoxWord } from "../../lib/util/philox.js";
import { thrown } from "../helpers/leaks.js";
import { temporaryFolder } from "../helpers/temporary.js";

const parts = suite("parts of JPEG files");
const work = temporaryFolder();
const run = addonInfo.jpeg ? parts : parts.skip;
if (!addonInfo.jpeg) console.log("  skipped: the addon was built without libjpeg-turbo");

/** A file of smooth noise. */
async function write(height: number, width: number, channels: 1 | 3, options: JpegOptions): Promise<string> {
  const path = join(work, "image.jpg");
  const pixels = Uint8Array.from(
    { length: height * width * channels },
    (_, k) => philoxWord(1, 9, 0, k) >>> 24,
  );
  const encoded = sharp(pixels, { raw: { height, width, channels } }).blur(2);
  const grey = channels === 1 ? encoded.toColourspace("b-w") : encoded;
  writeFileSync(path, await grey.jpeg({ quality: 90, ...options }).toBuffer());
  return path;
}

/** @param whole [height, width, channels] */
async function check(path: string, height: number, width: number, channels: number, whole: Uint8Array) {
  const image = await openImage(path, channels);
  assert.equal([image.height, image.width], [height, width]);
  assert.is(whole.length, height * width * channels);
  assert.is(Buffer.compare(image.part().data, whole), 0, "the whole image");
  for (const [top, left, h, w] of [
    [0, 0, height, width],
    [0, 0, 1, 1],
    [height - 1, width - 1, 1, 1],
    [7, 9, 16, 16],
    [8, 16, 17, 31],
    [1, width - 20, height - 1, 20],
    [height - 15, 3, 15, 50],
  ]) {
    const part = image.part({ top, left, height: h, width: w });
    assert.equal([part.height, part.width, part.channels], [h, w, channels]);
    assert.is(part.data.length, h * w * channels);
    for (let y = 0; y < h; y++) {
      const from = ((top + y) * width + left) * channels;
      assert.equal(
        Buffer.from(part.data.subarray(y * w * channels, (y + 1) * w * channels)),
        Buffer.from(whole.subarray(from, from + w * channels)),
      );
    }
  }
}

// Chroma in full, and halved: then a part that begins at an odd place needs its neighbours. Odd sizes, and sides of whole blocks.
for (const [height, width] of [
  [61, 83],
  [64, 96],
])
  for (const progressive of [false, true]) {
    const kind = progressive ? "progressive" : "baseline";
    for (const chromaSubsampling of ["4:4:4", "4:2:0"])
      run(`${height} x ${width}, ${chromaSubsampling}, ${kind}: in colour and as grey`, async () => {
        const path = await write(height, width, 3, { chromaSubsampling, progressive });
        const whole = await sharp(path).raw().toBuffer();
        await check(path, height, width, 3, whole);
        await check(path, height, width, 1, greyOf({ data: whole, channels: 3 }));
      });
    run(`${height} x ${width}, grey, ${kind}: in colour and as grey`, async () => {
      const path = await write(height, width, 1, { progressive });
      assert.is((await sharp(path).metadata()).channels, 1);
      const whole = await sharp(path).raw().toBuffer(); // three equal channels
      await check(path, height, width, 3, whole);
      const grey = whole.filter((_, k) => k % 3 === 0);
      await check(path, height, width, 1, grey);
    });
  }

for (const progressive of [false, true])
  run(
    `a ${progressive ? "progressive" : "baseline"} file that is cut is refused, even for its first pixel`,
    async () => {
      const path = await write(61, 83, 3, { progressive });
      const bytes = readFileSync(path);
      for (const length of [bytes.length >> 1, bytes.length - 100, bytes.length - 2, bytes.length - 1]) {
        writeFileSync(path, bytes.subarray(0, length));
        const image = await openImage(path, 3);
        const { message } = thrown(
          () => image.part({ top: 0, left: 0, height: 1, width: 1 }),
          FileError,
          `${length} bytes`,
        );
        assert.ok(message.includes(path), message);
      }
    },
  );

parts.run();
