import sharp from "sharp";
import { type BatchData, type Image, type ImageSet, Loader, type Preparation } from "../data/index.js";

/** Images of a set as a model sees them. */
export async function preparedBatch(
  set: ImageSet,
  samples: readonly number[],
  prepare: Preparation,
): Promise<BatchData> {
  const loader = new Loader(set, prepare, { classes: 1 }); // the width of mixed targets, of which there are none here
  try {
    return await loader.batch(samples);
  } finally {
    await loader.dispose();
  }
}

/** The images of a batch as bytes again. */
export function imagesOf({ pixels, shape }: BatchData, { mean, std }: Preparation): Image[] {
  const [batch, height, width, channels] = shape;
  const bytes = Uint8Array.from(pixels, (value, k) =>
    Math.round(255 * (value * std[k % channels] + mean[k % channels])),
  );
  const length = height * width * channels;
  return Array.from({ length: batch }, (_, k) => ({
    data: bytes.subarray(k * length, (k + 1) * length),
    height,
    width,
    channels,
  }));
}

/** As a PNG within a URI, made smaller where a side is longer than `longest` pixels. */
export async function dataUri({ data, height, width, channels }: Image, longest = Infinity): Promise<string> {
  let image = sharp(data, { raw: { width, height, channels: channels as 1 | 3 } });
  if (Math.max(height, width) > longest) image = image.resize(longest, longest, { fit: "inside" });
  const png = await image.png({ compressionLevel: 9 }).toBuffer();
  return `data:image/png;base64,${png.toString("base64")}`;
}
