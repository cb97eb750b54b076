/**
 * Operations on images against Pillow and timm. The fixture holds uint8 images by name, a JSON list of the picture, the
 * operation and its arguments: Pillow 12.3's `Image.resize(box=...)`, or timm 1.0.29's `AugmentOp` with magnitude, sign, filter and
 * fill colour, called on the pictures below.
 */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { INCREASING, type Operation, PLAIN } from "../../../lib/data/augment/rand_augment.js";
import type { Image } from "../../../lib/data/image.js";
import { type Box, type Filter, resample } from "../../../lib/data/resample.js";
import { readSafetensorsFile } from "../../../lib/io/safetensors_file.js";
import { packageRoot } from "../../../lib/native/addon.js";

const pillow = suite("augmentation against Pillow");

function picture(height: number, width: number, channels: number): Image {
  const data = new Uint8Array(height * width * channels);
  let at = 0;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < channels; c++)
        data[at++] =
          ((7 * x * x + 11 * y * y + 3 * x * y * (c + 1)) >> 5) + 29 * c + ((5 * x + 3 * y) % 7) * 9;
  return { data, height, width, channels };
}

const PICTURES = { rgb: picture(13, 16, 3), grey: picture(13, 16, 1), large: picture(40, 32, 1) };

type Change = (image: Image, ...rest: never[]) => Image;
const changes: Record<string, Change> = {
  resample: (image: Image, box: Box, height: number, width: number, filter: Filter) =>
    resample(image, box, height, width, filter),
};
const augmentOp =
  (operation: Operation): Change =>
  (image: Image, magnitude: number, sign: number, filter: "bilinear" | "bicubic", fill: number[]) =>
    operation(image, magnitude / 10, sign, { filter, fill });
for (const [name, operation] of Object.entries({ ...PLAIN, ...INCREASING }))
  changes[name] = augmentOp(operation);

const { tensors } = readSafetensorsFile(join(packageRoot(), "test/fixtures/augment_pillow.safetensors"));

for (const [operation, change] of Object.entries(changes))
  pillow(`${operation}: the same bytes`, () => {
    let compared = 0;
    for (const [name, { shape, bytes }] of tensors) {
      const [source, called, ...rest] = JSON.parse(name) as [keyof typeof PICTURES, string, ...never[]];
      if (called !== operation) continue;
      const { data, height, width, channels } = change(PICTURES[source], ...rest);
      assert.equal([height, width, channels], shape, name);
      const different = data.reduce((sum, byte, k) => sum + (byte === bytes[k] ? 0 : 1), 0);
      const distance = data.reduce((sum, byte, k) => sum + Math.abs(byte - bytes[k]), 0) / data.length;
      assert.is(different, 0, `${name}: ${different} bytes differ, by ${distance} in the mean`);
      compared++;
    }
    assert.ok(compared > 0);
  });

pillow.run();
