/** How images become the numbers that a model sees. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  fitImage,
  type Image,
  measureNormalisation,
  type Preparation,
  preparationSchema,
} from "../../lib/data/index.js";
import { Normaliser } from "../../lib/data/preparation.js";
import { memorySet } from "../helpers/image_sets.js";

const preparation = suite("preparation");
const plain: Preparation = {
  size: 4,
  fit: "pad",
  cropShare: 1,
  interpolation: "bilinear",
  mean: [0],
  std: [1],
};
/** 2 x 2 pixels with the values 0.2 to 0.8. */
const tiny: Image = { data: Uint8Array.of(51, 102, 153, 204), height: 2, width: 2, channels: 1 };
const tenths = (image: Image): number[] => Array.from(image.data, (value) => Math.round((value / 255) * 10));

preparation("pad: centred on black; an odd pixel goes to the right and to the bottom", () => {
  assert.equal(tenths(fitImage(tiny, plain)), [0, 0, 0, 0, 0, 2, 4, 0, 0, 6, 8, 0, 0, 0, 0, 0]);
  assert.equal(tenths(fitImage(tiny, { ...plain, size: 3 })), [2, 4, 0, 6, 8, 0, 0, 0, 0]);
  assert.is(fitImage(tiny, { ...plain, size: 2 }), tiny);
  assert.throws(() => fitImage(tiny, { ...plain, size: 1 }), /does not fit/);
});

preparation("numbers are normalised for each channel", () => {
  const into = new Float32Array(6);
  const image = { data: Uint8Array.of(0, 51, 255, 255, 0, 51), height: 1, width: 2, channels: 3 };
  new Normaliser({ mean: [0, 0.2, 0.5], std: [1, 0.5, 0.25] }).write(image, into);
  assert.equal(
    [...into].map((v) => Math.round(v * 100) / 100),
    [0, 0, 2, 1, -0.4, -1.2],
  );
});

preparation("mean and deviation of each channel", () => {
  const { mean, std } = measureNormalisation(memorySet([[0, 10, 255, 255, 10, 0]], [0], 1, 2, 3));
  assert.equal(mean, [0.5, 10 / 255, 0.5]);
  assert.equal(
    std.map((v) => Math.round(v * 1e6) / 1e6),
    [0.5, 0.000001, 0.5],
  );
});

preparation("what older files hold is read as what it meant", () => {
  assert.equal(preparationSchema.parse({ size: 32, mean: 0.5, std: 0.25 }), {
    ...{ size: 32, fit: "pad", cropShare: 1, interpolation: "bilinear" },
    ...{ mean: [0.5], std: [0.25] },
  });
});

preparation.run();
