import { constants } from "node:fs";
import { open } from "node:fs/promises";
import sharp from "sharp";
import { asFileError } from "../io/atomic_write.js";
import { FileError } from "../util/errors.js";
import type { Image } from "./image.js";

/** Decoding more would take gigabytes: the limit that Pillow warns at. */
export const MAX_PIXELS = 89_478_485;
/** Longer files are no images that fit {@link MAX_PIXELS}. */
const MAX_FILE_BYTES = 2 ** 30;

export interface DecodeOptions {
  /** Turn the image as its EXIF orientation says. Default false. */
  upright?: boolean;
  /** What shows through transparent parts; by default they are taken as if they were opaque. */
  background?: "black" | "white";
}

/**
 * An image file as bytes of 1 (grey) or 3 (red, green, blue) channels, as Pillow's convert("L") and convert("RGB") give them:
 * transparency is dropped without blending, colour profiles and the orientation in EXIF are not
 * applied, and of an animation the first picture is taken. Two kinds differ from Pillow: 16 bits keep their upper 8
 * (Pillow clips grey ones at 255), and CMYK is converted with a colour profile.
 * The header is read first: images of more than {@link MAX_PIXELS} pixels are refused before anything is decoded.
 * @throws {FileError} naming `path`, if it is no regular file, no image, cut short, damaged or too large
 */
export async function decodeFile(
  path: string,
  channels: number,
  { upright = false, background }: DecodeOptions = {},
): Promise<Image> {
  const bytes = await readImageFile(path);
  try {
    let image = sharp(bytes, { limitInputPixels: MAX_PIXELS, failOn: "error", ignoreIcc: true, pages: 1 });
    if (upright) image = image.autoOrient();
    image = background ? image.flatten({ background }) : image.removeAlpha();
    const { data, info } = await image
      .toColourspace("srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`decoded to ${info.channels} channels`);
    const { height, width } = info;
    return { data: channels === 1 ? greyOf(data) : data, height, width, channels };
  } catch (error) {
    const [problem] = (error as Error).message.split("\n");
    throw new FileError("decode", `${path}: is no whole image: ${problem}`);
  }
}

/** ITU-R 601 luma of red, green and blue, in Pillow's fixed point. */
function greyOf(colours: Uint8Array): Uint8Array {
  const grey = new Uint8Array(colours.length / 3);
  for (let k = 0; k < grey.length; k++) {
    const [r, g, b] = [colours[3 * k], colours[3 * k + 1], colours[3 * k + 2]];
    grey[k] = (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16;
  }
  return grey;
}

/** The bytes of a regular file. To open a pipe or a device could wait for ever, and is refused. */
export async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const status = await file.stat();
      if (!status.isFile()) throw new FileError("decode", `${path}: is not a regular file`);
      if (status.size === 0) throw new FileError("decode", `${path}: is empty`);
      if (status.size > MAX_FILE_BYTES)
        throw new FileError(
          "decode",
          `${path}: is too large`,
          `at most ${MAX_FILE_BYTES} bytes`,
          `${status.size}`,
        );
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw asFileError("decode", path, "cannot be read", error);
  }
}
