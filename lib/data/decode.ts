import sharp from "sharp";
import { readExactly, withRegularFile } from "../io/safetensors_file.js";
import { addon } from "../native/addon.js";
import { FileError } from "../util/errors.js";
import { greyOf } from "./augment/colour.js";
import type { Image } from "./image.js";
import { type Box, crop } from "./resample.js";

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
  options: DecodeOptions = {},
): Promise<Image> {
  return (await openImage(path, channels, options)).part();
}

/** An image of which parts can be asked for. */
export interface OpenImage {
  height: number;
  width: number;
  /** The part in the box, whose sides are whole numbers, or all of it. @throws {FileError} naming the file, if it is damaged */
  part(box?: Box): Image;
}

export function openPixels(image: Image): OpenImage {
  const { height, width } = image;
  return { height, width, part: (box) => (box ? crop(image, box) : image) };
}

/**
 * {@link decodeFile} for those who need a part only: of a JPEG no more than that is decoded, where the addon was built with
 * libjpeg-turbo. The bytes are the same either way.
 */
export async function openImage(
  path: string,
  channels: number,
  { upright = false, background }: DecodeOptions = {},
): Promise<OpenImage> {
  const bytes = readImageFile(path);
  const size = upright ? undefined : addon.jpegSize(bytes);
  if (!size) return openPixels(await decodeWhole(path, bytes, channels, upright, background));
  const [height, width] = size;
  if (height * width > MAX_PIXELS)
    throw damaged(path, `the image is ${width} x ${height}, which exceeds the pixel limit of ${MAX_PIXELS}`);
  const whole = { top: 0, left: 0, height, width };
  return { height, width, part: (box = whole) => jpegPart(path, bytes, box, channels) };
}

function jpegPart(path: string, bytes: Uint8Array, box: Box, channels: number): Image {
  const { top, left, height, width } = box;
  const data = new Uint8Array(height * width * 3);
  const problem = addon.jpegPart(bytes, Float64Array.of(top, left, height, width), data);
  if (problem !== "") throw damaged(path, problem);
  return { data: channels === 1 ? greyOf({ data: data, channels: 3 }) : data, height, width, channels };
}

async function decodeWhole(
  path: string,
  bytes: Uint8Array,
  channels: number,
  upright: boolean,
  background: DecodeOptions["background"],
): Promise<Image> {
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
    return { data: channels === 1 ? greyOf({ data: data, channels: 3 }) : data, height, width, channels };
  } catch (error) {
    throw damaged(path, (error as Error).message.split("\n")[0]);
  }
}

function damaged(path: string, problem: string): FileError {
  return new FileError("decode", `${path}: is no whole image: ${problem}`);
}

/** The bytes of a regular file. To open a pipe or a device could wait for ever, and is refused. */
function readImageFile(path: string): Uint8Array {
  return withRegularFile("decode", path, (handle, size) => {
    if (size === 0) throw new FileError("decode", `${path}: is empty`);
    if (size > MAX_FILE_BYTES)
      throw new FileError("decode", `${path}: is too large`, `at most ${MAX_FILE_BYTES} bytes`, `${size}`);
    return readExactly("decode", path, handle, 0, size);
  });
}
