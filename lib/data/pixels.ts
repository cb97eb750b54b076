import { addon } from "../native/addon.js";
import { FileError, NativeError, show } from "../util/errors.js";
import type { Image } from "./image.js";
import type { MemorySet, PackedSet } from "./image_set.js";

/** Where the bytes of equally large images are: what a thread is sent. */
export type PixelSource =
  | Pick<MemorySet, "kind" | "count" | "pixels" | "height" | "width" | "channels">
  | Pick<PackedSet, "kind" | "count" | "path" | "offset" | "height" | "width" | "channels">;

/** The source alone, without labels. */
export function pixelSource(set: MemorySet | PackedSet): PixelSource {
  const { count, height, width, channels } = set;
  const size = { count, height, width, channels };
  return set.kind === "memory"
    ? { kind: set.kind, pixels: set.pixels, ...size }
    : { kind: set.kind, path: set.path, offset: set.offset, ...size };
}

/** Bytes of the views that {@link Pixels.chunks} gives. */
const CHUNK_BYTES = 2 ** 26;

/** The bytes of equally large images. They are shared: nobody may write to them. */
export class Pixels {
  readonly #source: PixelSource;
  /** Views are made of parts only, as a typed array of all of a large file would exceed the limit of older Node. */
  readonly #buffer: ArrayBufferLike;
  readonly #offset: number;

  /** @throws {FileError} naming a packed file that cannot be mapped */
  constructor(source: PixelSource) {
    this.#source = source;
    this.#buffer = source.kind === "memory" ? source.pixels.buffer : mapPacked(source.path);
    this.#offset = source.kind === "memory" ? source.pixels.byteOffset : source.offset;
    const bytes = this.#offset + source.count * this.#length;
    if (source.kind === "packed" && this.#buffer.byteLength < bytes)
      throw new FileError(
        "loadDataset",
        `${show(source.path)}: was cut short since it was opened`,
        `${bytes} bytes`,
        `${this.#buffer.byteLength}`,
      );
  }

  image(sample: number): Image {
    const { height, width, channels } = this.#source;
    const data = new Uint8Array(this.#buffer, this.#offset + sample * this.#length, this.#length);
    return { data, height, width, channels };
  }

  /** All bytes in order, in parts of whole pixels. */
  *chunks(): Iterable<Uint8Array> {
    const all = this.#source.count * this.#length;
    const step = CHUNK_BYTES - (CHUNK_BYTES % this.#source.channels);
    for (let begin = 0; begin < all; begin += step)
      yield new Uint8Array(this.#buffer, this.#offset + begin, Math.min(step, all - begin));
  }

  get #length(): number {
    const { height, width, channels } = this.#source;
    return height * width * channels;
  }
}

function mapPacked(path: string): ArrayBuffer {
  try {
    return addon.mapFile(path);
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    throw new FileError("loadDataset", `${show(path)}: ${error.message}`);
  }
}
