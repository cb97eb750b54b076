/**
 * Reads pickles as data. Nothing in them is looked up, called or executed: a class or function is its name (PickleGlobal), and
 * what would be made by one is a record of the arguments (PickleObject), unless a `Meaning` says what it stands for.
 *
 * lists are arrays, tuples frozen arrays, dicts Maps, sets Sets; whole numbers past 2^53 are bigints.
 */

/** The name of a class or function. */
export class PickleGlobal {
  constructor(readonly name: string) {}
}

/** An object of a class that means nothing here: what it was made from. */
export class PickleObject {
  /** What a subclass of dict holds. */
  readonly entries = new Map<unknown, unknown>();
  /** What a subclass of list holds. */
  readonly items: unknown[] = [];
  /** Usually the object's attributes, a Map. */
  state: unknown;
  constructor(
    readonly type: string,
    readonly args: readonly unknown[],
  ) {}
}

/** What names stand for. Each may throw: then the pickle is refused. */
export interface Meaning {
  /** A class or function, by its dotted name. */
  global(name: string): PickleGlobal;
  /** The result of a global with arguments; a {@link PickleObject} if it means nothing. */
  make(global: PickleGlobal, args: readonly unknown[]): object;
  /** An object that lies outside of the pickle. */
  persistent(id: unknown): object;
}

/** Far above what checkpoints have; they bound the memory that a small file can ask for. */
const MAX_BYTES = 32 * 2 ** 20;
const MAX_CONTAINERS = 1_000_000;
const MAX_STACK = 1_000_000;
const MAX_NAME = 1000;
const MAX_LONG_BYTES = 1024;

/** A pickle that is damaged, hostile or of another kind. */
export class PickleError extends Error {}

/** @throws {PickleError} naming the fault and its place */
export function unpickle(bytes: Uint8Array, meaning: Meaning): unknown {
  return new Machine(bytes, meaning).run();
}

class Machine {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #meaning: Meaning;
  readonly #stack: unknown[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, unknown>();
  #at = 0;
  #containers = 0;

  constructor(bytes: Uint8Array, meaning: Meaning) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#meaning = meaning;
  }

  run(): unknown {
    if (this.#bytes.length > MAX_BYTES)
      throw new PickleError(`pickle of ${this.#bytes.length} bytes is larger than ${MAX_BYTES}`);
    try {
      if (this.#byte() !== 0x80) throw new PickleError("pickle does not begin with its protocol");
      const protocol = this.#byte();
      if (protocol < 2 || protocol > 5) throw new PickleError(`pickle protocol ${protocol} is not 2 to 5`);
      for (;;) {
        const opcode = this.#byte();
        if (opcode === 0x2e) break; // STOP
        const value = this.#execute(opcode);
        if (value !== undefined) this.#stack.push(value);
        if (this.#stack.length > MAX_STACK || this.#marks.length > MAX_STACK)
          throw new PickleError(`pickle stacks more than ${MAX_STACK} values`);
      }
      const result = this.#pop();
      if (this.#stack.length > 0 || this.#marks.length > 0)
        throw new PickleError("pickle ends with values left over");
      if (this.#at !== this.#bytes.length) throw new PickleError("pickle goes on after its end");
      return result;
    } catch (error) {
      if (error instanceof PickleError) error.message += ` (before byte ${this.#at})`;
      throw error;
    }
  }

  /** What the opcode pushes, or undefined. */
  #execute(opcode: number): unknown {
    switch (opcode) {
      case 0x95: // FRAME
        if (this.#length8() > this.#bytes.length - this.#at) throw new PickleError("frame is cut short");
        return undefined;
      case 0x28: // MARK
        this.#marks.push(this.#stack.length);
        return undefined;
      case 0x30: // POP
        this.#pop();
        return undefined;
      case 0x31: // POP_MARK
        this.#popMark();
        return undefined;
      case 0x32: // DUP
        return this.#top();

      case 0x4e: // NONE
        return null;
      case 0x88: // NEWTRUE
        return true;
      case 0x89: // NEWFALSE
        return false;
      case 0x4a: // BININT
        return this.#view.getInt32(this.#skip(4), true);
      case 0x4b: // BININT1
        return this.#byte();
      case 0x4d: // BININT2
        return this.#view.getUint16(this.#skip(2), true);
      case 0x8a: // LONG1
        return this.#long(this.#byte());
      case 0x8b: // LONG4
        return this.#long(this.#length4());
      case 0x47: // BINFLOAT
        return this.#view.getFloat64(this.#skip(8), false);
      case 0x58: // BINUNICODE
        return this.#text(this.#length4());
      case 0x8c: // SHORT_BINUNICODE
        return this.#text(this.#byte());
      case 0x8d: // BINUNICODE8
        return this.#text(this.#length8());
      case 0x42: // BINBYTES
        return this.#take(this.#length4()).slice();
      case 0x43: // SHORT_BINBYTES
        return this.#take(this.#byte()).slice();
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        return this.#take(this.#length8()).slice();

      case 0x29: // EMPTY_TUPLE
        return this.#tuple([]);
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: {
        // TUPLE3
        const items = Array.from({ length: opcode - 0x84 }, () => this.#pop());
        return this.#tuple(items.reverse());
      }
      case 0x74: // TUPLE
        return this.#tuple(this.#popMark());
      case 0x5d: // EMPTY_LIST
        return this.#container([]);
      case 0x6c: // LIST
        return this.#container(this.#popMark());
      case 0x7d: // EMPTY_DICT
        return this.#container(new Map());
      case 0x64: // DICT
        return this.#put(this.#container(new Map()), this.#popMark());
      case 0x8f: // EMPTY_SET
        return this.#container(new Set());
      case 0x91: // FROZENSET
        return this.#container(new Set(this.#popMark().map(hashable)));
      case 0x61: {
        // APPEND
        const item = this.#pop();
        return this.#append([item]);
      }
      case 0x65: // APPENDS
        return this.#append(this.#popMark());
      case 0x73: {
        // SETITEM
        const [value, key] = [this.#pop(), this.#pop()];
        this.#put(this.#top(), [key, value]);
        return undefined;
      }
      case 0x75: {
        // SETITEMS
        const pairs = this.#popMark();
        this.#put(this.#top(), pairs);
        return undefined;
      }
      case 0x90: {
        // ADDITEMS
        const items = this.#popMark();
        const set = this.#top();
        if (!(set instanceof Set)) throw new PickleError("items are added to what is no set");
        for (const item of items) set.add(hashable(item));
        return undefined;
      }

      case 0x71: // BINPUT
        return this.#remember(this.#byte());
      case 0x72: // LONG_BINPUT
        return this.#remember(this.#length4());
      case 0x94: // MEMOIZE
        return this.#remember(this.#memo.size);
      case 0x68: // BINGET
        return this.#recall(this.#byte());
      case 0x6a: // LONG_BINGET
        return this.#recall(this.#length4());

      case 0x63: // GLOBAL
        return this.#meaning.global(`${this.#line()}.${this.#line()}`);
      case 0x93: {
        // STACK_GLOBAL
        const [name, module] = [this.#pop(), this.#pop()];
        if (typeof name !== "string" || typeof module !== "string")
          throw new PickleError("the name of a global is no string");
        if (name.length + module.length > MAX_NAME) throw new PickleError("the name of a global is too long");
        return this.#meaning.global(`${module}.${name}`);
      }
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ
        const args = this.#pop();
        return this.#make(this.#pop(), args);
      }
      case 0x92: {
        // NEWOBJ_EX
        const [named, args] = [this.#pop(), this.#pop()];
        const type = this.#pop();
        if (!(named instanceof Map)) throw new PickleError("named arguments are no dict");
        if (named.size === 0) return this.#make(type, args);
        return this.#make(type, this.#tuple([...tupleOf(args), named]));
      }
      case 0x62: {
        // BUILD: attributes. Those of what has a meaning (the versions that a state dict carries) have none.
        const state = this.#pop();
        const object = this.#top();
        if (object instanceof PickleObject) object.state = state;
        else if (typeof object !== "object" || object === null || object instanceof PickleGlobal)
          throw new PickleError("attributes are given to what is no object");
        return undefined;
      }
      case 0x51: // BINPERSID
        return this.#meaning.persistent(this.#pop());
      default:
        throw new PickleError(`opcode 0x${opcode.toString(16).padStart(2, "0")} is not allowed`);
    }
  }

  #make(global: unknown, args: unknown): unknown {
    if (!(global instanceof PickleGlobal)) throw new PickleError("what is called is no class or function");
    return this.#container(this.#meaning.make(global, tupleOf(args)));
  }

  #append(items: unknown[]): undefined {
    const target = this.#top();
    const list = target instanceof PickleObject ? target.items : target;
    if (!Array.isArray(list) || Object.isFrozen(list))
      throw new PickleError("items are appended to what is no list");
    for (const item of items) list.push(item);
  }

  #put<T>(target: T, pairs: unknown[]): T {
    const map = target instanceof PickleObject ? target.entries : target;
    if (!(map instanceof Map)) throw new PickleError("entries are put into what is no dict");
    if (pairs.length % 2 !== 0) throw new PickleError("a dict has a key without a value");
    for (let k = 0; k < pairs.length; k += 2) map.set(hashable(pairs[k]), pairs[k + 1]);
    return target;
  }

  #remember(index: number): undefined {
    this.#memo.set(index, this.#top());
  }
  #recall(index: number): unknown {
    if (!this.#memo.has(index)) throw new PickleError(`nothing is remembered as ${index}`);
    return this.#memo.get(index);
  }

  #container<T>(value: T): T {
    if (++this.#containers > MAX_CONTAINERS)
      throw new PickleError(`pickle holds more than ${MAX_CONTAINERS} objects`);
    return value;
  }
  #tuple(items: unknown[]): readonly unknown[] {
    return this.#container(Object.freeze(items));
  }

  /** The value on top, which no mark may separate. */
  #top(): unknown {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw new PickleError("the stack is empty");
    return this.#stack.at(-1);
  }
  #pop(): unknown {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }
  #popMark(): unknown[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw new PickleError("a mark is missing");
    return this.#stack.splice(mark);
  }

  /** Moves on by `count` bytes. @returns where they begin */
  #skip(count: number): number {
    const begin = this.#at;
    if (count > this.#bytes.length - begin) throw new PickleError("pickle is cut short");
    this.#at += count;
    return begin;
  }
  #take(count: number): Uint8Array {
    const begin = this.#skip(count);
    return this.#bytes.subarray(begin, begin + count);
  }
  #byte(): number {
    return this.#bytes[this.#skip(1)];
  }
  #length4(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }
  #length8(): number {
    return Number(this.#view.getBigUint64(this.#skip(8), true));
  }

  #text(length: number): string {
    const bytes = this.#take(length);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new PickleError("a string is not UTF-8");
    }
  }

  /** Up to the end of the line. */
  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0 || end - this.#at > MAX_NAME) throw new PickleError("the name of a global is too long");
    const text = this.#text(end - this.#at);
    this.#at++;
    return text;
  }

  /** Two's complement, the lowest byte first. */
  #long(length: number): number | bigint {
    if (length > MAX_LONG_BYTES)
      throw new PickleError(`a number has more than ${MAX_LONG_BYTES} bytes: ${length}`);
    const bytes = this.#take(length);
    let value = 0n;
    for (let k = length - 1; k >= 0; k--) value = value * 256n + BigInt(bytes[k]);
    const signed = BigInt.asIntN(8 * length, value);
    return Number.isSafeInteger(Number(signed)) ? Number(signed) : signed;
  }
}

/** A key as Python allows it: what cannot change. */
function hashable(key: unknown): unknown {
  if ((Array.isArray(key) && !Object.isFrozen(key)) || key instanceof Map || key instanceof Set)
    throw new PickleError("a key is a list, dict or set");
  return key;
}

function tupleOf(args: unknown): readonly unknown[] {
  if (!Array.isArray(args)) throw new PickleError("arguments are no tuple");
  return args;
}
