/** Torch checkpoints made by hand, as torch.save lays them out or deliberately otherwise. */
import { crc32 } from "node:zlib";

export interface ZipEntry {
  name: string;
  data: Uint8Array;
  /** What the headers say instead of the truth. */
  crc?: number;
  size?: number;
  /** Size without what encryption or compression adds or takes; by default the other one. */
  uncompressed?: number;
  method?: number;
  flags?: number;
  /** Name in the entry's own header. */
  localName?: string;
  /** Position that the directory names. */
  offset?: number;
}

/** A zip archive of stored entries. @param count of entries that the end record claims */
export function zip(entries: readonly ZipEntry[], count = entries.length): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const entry of entries) {
    const { name, data, method = 0, flags = 0 } = entry;
    const facts = Buffer.alloc(16);
    facts.writeUInt32LE(entry.crc ?? crc32(data), 4);
    facts.writeUInt32LE(entry.size ?? data.length, 8);
    facts.writeUInt32LE(entry.uncompressed ?? entry.size ?? data.length, 12);
    const head = Buffer.from([...words(20, flags, method), ...facts]);
    const local = Buffer.from(entry.localName ?? name);
    const own = Buffer.concat([Buffer.from("PK\x03\x04"), head, words(local.length, 0), local, data]);
    const place = Buffer.alloc(4);
    place.writeUInt32LE(entry.offset ?? at);
    const rest = Buffer.concat([words(Buffer.byteLength(name), 0, 0, 0, 0, 0, 0), place]);
    directory.push(Buffer.concat([Buffer.from("PK\x01\x02"), words(20), head, rest, Buffer.from(name)]));
    parts.push(own);
    at += own.length;
  }
  const listed = Buffer.concat(directory);
  const places = Buffer.alloc(8);
  places.writeUInt32LE(listed.length);
  places.writeUInt32LE(at, 4);
  const end = Buffer.concat([Buffer.from("PK\x05\x06"), words(0, 0, count, count), places, words(0)]);
  return Buffer.concat([...parts, listed, end]);
}

/** 16-bit numbers. */
function words(...values: number[]): Buffer {
  return Buffer.from(Uint16Array.from(values).buffer);
}

/** Opcodes of pickles, joined by `pickle`. */
export type Code = string | number | readonly Code[];

/** Bytes of opcodes: strings by their Latin-1 codes, numbers as a byte. */
export function bytesOf(...codes: Code[]): Buffer {
  return Buffer.concat(
    codes.map((code) => {
      if (typeof code === "number") return Buffer.from([code]);
      return typeof code === "string" ? Buffer.from(code, "latin1") : bytesOf(...code);
    }),
  );
}

/** A pickle of protocol 2 that holds what the codes leave on the stack. */
export function pickle(...codes: Code[]): Buffer {
  return bytesOf("\x80\x02", codes, ".");
}

export function text(value: string): Code {
  return ["X", u32(Buffer.byteLength(value)), value];
}
export function global(name: string): Code {
  const dot = name.lastIndexOf(".");
  return `c${name.slice(0, dot)}\n${name.slice(dot + 1)}\n`;
}
export function integer(value: number): Code {
  return ["J", u32(value)];
}
export function tuple(...items: Code[]): Code {
  return ["(", items, "t"];
}
export function dict(...pairs: [string, Code][]): Code {
  return ["}(", pairs.map(([key, value]) => [text(key), value]), "u"];
}
export function reduce(name: string, ...args: Code[]): Code {
  return [global(name), tuple(...args), "R"];
}
export function u32(value: number): Code {
  return [0, 8, 16, 24].map((shift) => (value >> shift) & 255);
}

/** A tensor, as torch pickles it. */
export function tensorCode(
  shape: readonly number[],
  {
    key = "0",
    count = shape.reduce((a, b) => a * b, 1),
    strides = shape.map((_, k) => shape.slice(k + 1).reduce((a, b) => a * b, 1)),
    offset = 0,
    type = "torch.FloatStorage",
  }: { key?: string; count?: number; strides?: readonly number[]; offset?: number; type?: string } = {},
): Code {
  const storage = [tuple(text("storage"), global(type), text(key), text("cpu"), integer(count)), "Q"];
  const hooks = reduce("collections.OrderedDict");
  const sizes = [tuple(...shape.map(integer)), tuple(...strides.map(integer))];
  return reduce("torch._utils._rebuild_tensor_v2", storage, integer(offset), sizes, "\x89", hooks);
}

/** A checkpoint of this pickle and these storages. */
export function checkpoint(
  code: Uint8Array,
  storages: readonly Uint8Array[] = [],
  more: ZipEntry[] = [],
): Buffer {
  const data = storages.map((data, k) => ({ name: `a/data/${k}`, data }));
  return zip([{ name: "a/data.pkl", data: code }, ...more, ...data]);
}

/** float32 tensors by name as a checkpoint with the state dict under `model`. */
export function stateDictFile(
  tensors: ReadonlyMap<string, { shape: readonly number[]; data: Float32Array }>,
): Buffer {
  const entries = [...tensors].map(([name, { shape }], k): [string, Code] => [
    name,
    tensorCode(shape, { key: String(k) }),
  ]);
  const storages = [...tensors.values()].map(
    ({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  );
  return checkpoint(pickle(dict(["model", dict(...entries)])), storages);
}
