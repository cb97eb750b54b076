/**
 * The zip archive of a PyTorch checkpoint as a list of places in the file. What two readers could read differently is refused:
 * headers that contradict each other, overlapping or repeated entries. torch compresses nothing, so there is nothing to inflate.
 */
import { crc32 } from "node:zlib";
import yauzl from "yauzl";
import { FileError, show } from "../../util/errors.js";
import { readExactly } from "../safetensors_file.js";

const MAX_ENTRIES = 1_000_000;
const MAGIC = Buffer.from("PK\x03\x04", "latin1");
const STORED = 0;
/** General-purpose flags. */
const ENCRYPTED = 1;
const SIZES_FOLLOW = 8;
/** What stands for a size that an extra field has. */
const IN_ZIP64 = 0xffffffff;

interface Place {
  /** Position of the first byte in the file. */
  start: number;
  size: number;
  crc32: number;
}

/** The entries of an open file. */
export class Archive {
  readonly #entries: ReadonlyMap<string, Place>;

  private constructor(
    readonly path: string,
    readonly handle: number,
    entries: ReadonlyMap<string, Place>,
  ) {
    this.#entries = entries;
  }

  /** @throws {FileError} for a file that is no whole zip archive, or one of another kind of torch file */
  static async open(path: string, handle: number, fileSize: number): Promise<Archive> {
    const head = readExactly("loadTorch", path, handle, 0, Math.min(fileSize, 512));
    if (Buffer.compare(head.subarray(0, MAGIC.length), MAGIC) !== 0) throw notZip(path, Buffer.from(head));
    const entries = await list(path, handle, fileSize);
    return new Archive(path, handle, entries);
  }

  names(): IterableIterator<string> {
    return this.#entries.keys();
  }

  /** Size of an entry in bytes, or nothing if there is none. */
  sizeOf(name: string): number | undefined {
    return this.#entries.get(name)?.size;
  }

  /** The bytes of an entry, in a buffer of their own. @throws {FileError} if they do not have their checksum */
  read(name: string): Uint8Array<ArrayBuffer> {
    const place = this.#entries.get(name);
    if (!place) throw fail(this.path, `has no entry ${show(name)}`);
    const bytes = readExactly("loadTorch", this.path, this.handle, place.start, place.size);
    if (crc32(bytes) !== place.crc32)
      throw fail(
        this.path,
        `entry ${show(name)} does not have its checksum`,
        "a whole file, saved with checksums as torch does by default",
      );
    return bytes;
  }
}

export function fail(path: string, problem: string, expected?: string, got?: string): FileError {
  return new FileError("loadTorch", `${show(path)}: ${problem}`, expected, got);
}

async function list(path: string, handle: number, fileSize: number): Promise<Map<string, Place>> {
  const entries = new Map<string, Place>();
  const ranges: { begin: number; end: number; name: string }[] = [];
  try {
    const options = { autoClose: false, lazyEntries: true, strictFileNames: true };
    const zip = await yauzl.fromFdPromise(handle, options);
    if (zip.entryCount > MAX_ENTRIES)
      throw fail(path, "archive has too many entries", `at most ${MAX_ENTRIES}`, `${zip.entryCount}`);
    for await (const entry of zip.eachEntry()) {
      const name = entry.fileName;
      const refuse = (problem: string): FileError => fail(path, `entry ${show(name)} ${problem}`);
      if (/^[^/]+\/(?:code\/|constants\.pkl$)/.test(name))
        throw fail(path, "is a TorchScript program, which is not read", STATE_DICT);
      if (entry.generalPurposeBitFlag & ENCRYPTED) throw refuse("is encrypted");
      if (entry.compressionMethod !== STORED) throw refuse("is compressed, which torch never does");
      if (entries.has(name)) throw refuse("is there twice");
      const local = await zip.readLocalFileHeaderPromise(entry);
      const same = (inLocal: number, inDirectory: number): boolean =>
        inLocal === inDirectory ||
        inLocal === IN_ZIP64 ||
        (inLocal === 0 && (local.generalPurposeBitFlag & SIZES_FOLLOW) !== 0);
      if (
        !local.fileName.equals(entry.fileNameRaw) ||
        local.compressionMethod !== entry.compressionMethod ||
        !same(local.compressedSize, entry.compressedSize) ||
        !same(local.uncompressedSize, entry.uncompressedSize) ||
        !same(local.crc32, entry.crc32)
      )
        throw refuse("is described differently by its own header and by the archive's directory");
      const [start, size] = [local.fileDataStart, entry.uncompressedSize];
      if (!Number.isSafeInteger(start + size) || start + size > fileSize)
        throw refuse("reaches past the end of the file");
      entries.set(name, { start, size, crc32: entry.crc32 });
      ranges.push({ begin: entry.relativeOffsetOfLocalHeader, end: start + size, name });
    }
  } catch (error) {
    if (error instanceof FileError) throw error;
    throw fail(path, `is no whole zip archive (${(error as Error).message})`);
  }
  ranges.sort((a, b) => a.begin - b.begin);
  for (let k = 1; k < ranges.length; k++)
    if (ranges[k].begin < ranges[k - 1].end)
      throw fail(path, `entries ${show(ranges[k - 1].name)} and ${show(ranges[k].name)} overlap`);
  return entries;
}

const STATE_DICT = "a state dict: torch.save(torch.jit.load(FILE).state_dict(), OTHER)";

/** torch's number at the start of a file from before version 1.6, as a pickle has it. */
const LEGACY_MAGIC = Buffer.from("8a0a6cfc9c46f9206aa85019", "hex");
const RESAVE = "a file of torch 1.6 or later: load it there and torch.save it again";

function notZip(path: string, head: Buffer): FileError {
  if (head.subarray(0, 16).includes(LEGACY_MAGIC))
    return fail(path, "is a checkpoint in torch's legacy format, which is not read", RESAVE);
  if (head.subarray(257, 262).toString("latin1") === "ustar")
    return fail(path, "is a checkpoint in torch's legacy tar format, which is not read", RESAVE);
  if (head[0] === 0x80) return fail(path, "is a bare pickle, which is not read", RESAVE);
  return fail(path, "is no torch checkpoint", "a zip archive that torch.save wrote");
}
