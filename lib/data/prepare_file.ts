import { invert } from "./augment/colour.js";
import { decodeFile } from "./decode.js";
import type { BatchData } from "./loader.js";
import { contain, fitImage, Normaliser, type Preparation } from "./preparation.js";

/** What a model knows of the images that it was trained on. */
export interface SeenImages {
  prepare: Preparation;
  /** Size of the training images. */
  image: { height: number; width: number };
  channels: number;
}

/**
 * A photograph or drawing as a batch of one, as in evaluation, but turned upright as its EXIF orientation says. For a model of padded
 * images it is first brought to their size, whole, on black.
 * @param inverted  for dark drawings on white paper, where a model has seen light ones on black
 * @throws {FileError} naming the file, if it cannot be decoded
 */
export async function prepareFile(
  path: string,
  { prepare, image: { height, width }, channels }: SeenImages,
  inverted = false,
): Promise<BatchData> {
  const decoded = await decodeFile(path, channels, {
    upright: true,
    background: inverted ? "white" : "black",
  });
  const shown = inverted ? invert(decoded) : decoded;
  const fitted = fitImage(prepare.fit === "pad" ? contain(shown, height, width) : shown, prepare);
  const pixels = new Float32Array(fitted.data.length);
  new Normaliser(prepare).write(fitted, pixels);
  return { pixels, shape: [1, prepare.size, prepare.size, channels], labels: new Int32Array(1) };
}
