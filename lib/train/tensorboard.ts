/**
 * TensorBoard's event files: records of [length, checksum of it, bytes, checksum of them], each an Event in protobuf's wire format
 * (tensorflow/core/util/event.proto).
 */
import { appendFileSync } from "node:fs";
import { join } from "node:path";

/** Protobuf wire types. */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

const CRC32C = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli), rotated and offset as the format wants it. */
function maskedCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC32C[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

const key = (field: number, wire: number): number[] => varint(field * 8 + wire);
const whole = (field: number, value: number): Buffer =>
  Buffer.from([...key(field, VARINT), ...varint(value)]);

function double(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([Buffer.from(key(field, FIXED64)), bytes]);
}

function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([Buffer.from(key(field, FIXED32)), bytes]);
}

function embedded(field: number, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([...key(field, BYTES), ...varint(bytes.length)]), bytes]);
}

/** An Event with its frame. @param time in seconds since 1970 */
function record(time: number, step: number, what: Buffer): Buffer {
  const event = Buffer.concat([double(1, time), whole(2, step), what]);
  const framed = Buffer.alloc(event.length + 16);
  framed.writeBigUInt64LE(BigInt(event.length));
  framed.writeUInt32LE(maskedCrc(framed.subarray(0, 8)), 8);
  framed.set(event, 12);
  framed.writeUInt32LE(maskedCrc(event), event.length + 12);
  return framed;
}

/** The beginning of a file. What other files of the folder say of steps from `step` on does not hold any more. */
export function eventFileHeader(time: number, step: number): Buffer {
  const start = embedded(7, whole(1, 1)); // session log: started
  return Buffer.concat([record(time, 0, embedded(3, "brain.Event:2")), record(time, step, start)]);
}

/** Numbers of a step by their tags. */
export function scalarEvent(time: number, step: number, scalars: ReadonlyMap<string, number>): Buffer {
  const values = [...scalars].map(([tag, value]) =>
    embedded(1, Buffer.concat([embedded(1, tag), float(2, value)])),
  );
  return record(time, step, embedded(5, Buffer.concat(values)));
}

/** One event file in a folder, for what is written from now on. */
export class EventFile {
  readonly #path: string;

  /** @param step the first one that will be written */
  constructor(folder: string, step: number) {
    const now = Date.now() / 1000;
    this.#path = join(folder, `events.out.tfevents.${Math.floor(now)}.quadmamba`);
    appendFileSync(this.#path, eventFileHeader(now, step));
  }

  append(step: number, scalars: ReadonlyMap<string, number>): void {
    appendFileSync(this.#path, scalarEvent(Date.now() / 1000, step, scalars));
  }
}
