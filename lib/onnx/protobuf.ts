/**
 * The wire format of protocol buffers, as far as ONNX files need it: varints, 32-bit floats and things with a length. A message
 * keeps its parts as they are given, so that weights are not copied.
 */
const VARINT = 0;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

export class Message {
  readonly #parts: Uint8Array[] = [];
  #byteLength = 0;

  get byteLength(): number {
    return this.#byteLength;
  }
  /** The message's bytes, in pieces. */
  get parts(): readonly Uint8Array[] {
    return this.#parts;
  }

  /** A whole number; negative ones take ten bytes, as in two's complement of 64 bits. */
  int(field: number, value: number): this {
    return this.#append(varint(field * 8 + VARINT), varint(value));
  }

  /** A 32-bit float. */
  float(field: number, value: number): this {
    return this.#append(varint(field * 8 + FIXED32), new Uint8Array(Float32Array.of(value).buffer));
  }

  bytes(field: number, value: Uint8Array): this {
    return this.#append(varint(field * 8 + LENGTH_DELIMITED), varint(value.byteLength), value);
  }

  string(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  message(field: number, value: Message): this {
    return this.#append(varint(field * 8 + LENGTH_DELIMITED), varint(value.byteLength), ...value.parts);
  }

  #append(...parts: Uint8Array[]): this {
    for (const part of parts) {
      this.#parts.push(part);
      this.#byteLength += part.byteLength;
    }
    return this;
  }
}

/** Seven bits a byte, the lowest first; the top bit says that more follow. */
function varint(value: number): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  do {
    const more = rest > 0x7fn ? 0x80 : 0;
    bytes.push(Number(rest & 0x7fn) | more);
    rest >>= 7n;
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}
