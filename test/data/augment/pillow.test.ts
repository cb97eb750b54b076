/**
 * Operations on images against Pillow and timm. The fixture holds uint8 images by name, a JSON list of the picture, the
 * operation and its arguments, made with Pillow 12.3 (`Image.resize(box=...)` and so on) from the pictures below.
 */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
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

const PICTURES = { rgb: picture(20, 24, 3), grey: picture(20, 24, 1), large: picture(48, 40, 1) };

type Arguments = [keyof typeof PICTURES, string, ...never[]];
const OPERATIONS: Record<string, (image: Image, ...rest: never[]) => Image> = {
  resample: (image: Image, box: Box, height: number, width: number, filter: Filter) =>
    resample(image, box, height, width, filter),
};

const { tensors } = readSafetensorsFile(join(packageRoot(), "test/fixtures/augment_pillow.safetensors"));

for (const operation of Object.keys(OPERATIONS))
  pillow(`${operation}: the same bytes`, () => {
    let compared = 0;
    for (const [name, { shape, bytes }] of tensors) {
      const [source, called, ...rest] = JSON.parse(name) as Arguments;
      if (called !== operation) continue;
      const { data, height, width, channels } = OPERATIONS[operation](PICTURES[source], ...rest);
      assert.equal([height, width, channels], shape, name);
      assert.equal(Buffer.from(data).toString("hex"), Buffer.from(bytes).toString("hex"), name);
      compared++;
    }
    assert.ok(compared > 0);
  });

pillow.run();
