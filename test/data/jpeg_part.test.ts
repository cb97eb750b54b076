/** Parts of JPEG files are decoded alone: each byte must be that of the same cut from the whole image. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openImage } from "../../lib/data/decode.js";
import { philoxWord } from "../../lib/util/philox.js";
import { temporaryFolder } from "../helpers/temporary.js";

const parts = suite("parts of JPEG files");

// Chroma in full, and halved: then a part that begins at an odd place needs its neighbours. Odd sizes, and sides of whole blocks.
for (const [height, width] of [
  [61, 83],
  [64, 96],
])
  for (const chromaSubsampling of ["4:4:4", "4:2:0"])
    for (const progressive of [false, true])
      parts(
        `${height} x ${width}, ${chromaSubsampling}, ${progressive ? "progressive" : "baseline"}`,
        async () => {
          const path = join(temporaryFolder(), "image.jpg");
          const pixels = Uint8Array.from(
            { length: height * width * 3 },
            (_, k) => philoxWord(1, 9, 0, k) >>> 24,
          );
          const encoded = sharp(pixels, { raw: { height, width, channels: 3 } }).blur(2);
          writeFileSync(path, await encoded.jpeg({ quality: 90, chromaSubsampling, progressive }).toBuffer());
          const image = await openImage(path, 3);
          const whole = image.part();
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
            assert.equal([part.height, part.width, part.channels], [h, w, 3]);
            for (let y = 0; y < h; y++) {
              const from = ((top + y) * width + left) * 3;
              assert.equal(
                part.data.subarray(y * w * 3, (y + 1) * w * 3),
                whole.data.subarray(from, from + w * 3),
              );
            }
          }
        },
      );

parts.run();
