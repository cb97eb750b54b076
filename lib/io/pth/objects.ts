/** What the classes and functions in a torch checkpoint stand for. All others stay names, and what they would make records. */
import { show } from "../../util/errors.js";
import { type Meaning, PickleError, PickleGlobal, PickleObject } from "./pickle.js";

/** Element types, by torch's names, with their bytes. */
export const ELEMENT_BYTES = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
} as const;
export type ElementType = keyof typeof ELEMENT_BYTES;

const STORAGES = new Map<string, ElementType>([
  ["torch.DoubleStorage", "float64"],
  ["torch.FloatStorage", "float32"],
  ["torch.HalfStorage", "float16"],
  ["torch.BFloat16Storage", "bfloat16"],
  ["torch.LongStorage", "int64"],
  ["torch.IntStorage", "int32"],
  ["torch.ShortStorage", "int16"],
  ["torch.CharStorage", "int8"],
  ["torch.ByteStorage", "uint8"],
  ["torch.BoolStorage", "bool"],
]);
const UNTYPED = "torch.storage.UntypedStorage";

/** The elements of one entry of the archive, which tensors may share. */
export class TorchStorage {
  constructor(
    readonly key: string,
    /** A name of torch's; nothing for one that is only bytes. */
    readonly type: ElementType | undefined,
    readonly bytes: number,
  ) {}
}

/** A tensor of a checkpoint, not read yet: a view of a storage. */
export class TorchTensor {
  constructor(
    readonly storage: TorchStorage,
    readonly dtype: ElementType,
    readonly shape: readonly number[],
    /** Of the elements in the storage, in elements. */
    readonly strides: readonly number[],
    readonly offset: number,
  ) {}
  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((a, b) => a * b, 1);
  }
}

/** Modules whose functions run things. Nothing would be run here; but who wrote such a file did not mean to share weights. */
const RUNS_CODE =
  /^(os|posix|nt|subprocess|sys|importlib|runpy|shutil|socket|ctypes|pty|code|codeop|commands|bdb|pdb|timeit|pip|asyncio|multiprocessing|threading|webbrowser|urllib|urllib2|http|httplib|requests|pickle|_pickle|dill|cloudpickle|marshal|types|functools|operator|inspect|torch\.hub|torch\.jit|torch\.serialization|torch\.load)\./;
/** Of the built-in names, those of data. */
const BUILTINS =
  /^(?:builtins|__builtin__)\.(?!(?:set|frozenset|bytearray|bytes|complex|slice|range|object|int|float|str|bool|dict|list|tuple)$)/;

/** Elements of a view that is larger than its storage (an expanded one): more is no weight, but a way to fill memory. */
const LARGEST_EXPANDED = 2 ** 24;
const MAX_RANK = 64;

/**
 * @param sizeOf bytes of the storage of a key, or nothing if the archive has none
 */
export function torchMeaning(sizeOf: (key: string) => number | undefined): Meaning {
  const storages = new Map<string, TorchStorage>();
  return {
    global(name) {
      if (RUNS_CODE.test(name) || BUILTINS.test(name))
        throw new PickleError(`pickle names ${show(name)}, which runs code: the file is hostile`);
      return new PickleGlobal(name);
    },
    make({ name }, args) {
      switch (name) {
        case "torch._utils._rebuild_tensor":
        case "torch._utils._rebuild_tensor_v2":
          return tensorOf(args);
        case "torch._utils._rebuild_tensor_v3":
          return tensorOf(args, args[6]);
        case "torch._utils._rebuild_parameter":
        case "torch._utils._rebuild_parameter_with_state":
          if (!(args[0] instanceof TorchTensor)) throw new PickleError("a parameter is no tensor");
          return args[0];
        case "collections.OrderedDict":
        case "collections.defaultdict":
          return new Map();
        case "torch.Size":
          if (!Array.isArray(args[0])) throw new PickleError("a size is no tuple");
          return args[0];
        default:
          return new PickleObject(name, args);
      }
    },
    persistent(id) {
      const storage = storageOf(id, sizeOf);
      const known = storages.get(storage.key);
      if (known && known.type !== storage.type)
        throw new PickleError(`storage ${show(storage.key)} has two types`);
      storages.set(storage.key, known ?? storage);
      return known ?? storage;
    },
  };
}

/** From ("storage", class, key, device, elements). */
function storageOf(id: unknown, sizeOf: (key: string) => number | undefined): TorchStorage {
  const [kind, type, key, , count] = Array.isArray(id) ? id : [];
  if (kind !== "storage" || !(type instanceof PickleGlobal) || typeof key !== "string" || !isCount(count))
    throw new PickleError("what lies outside of the pickle is no storage");
  const element = STORAGES.get(type.name);
  if (!element && type.name !== UNTYPED) throw new PickleError(`storages of ${show(type.name)} are not read`);
  const bytes = count * (element ? ELEMENT_BYTES[element] : 1);
  const size = sizeOf(key);
  if (size === undefined) throw new PickleError(`storage ${show(key)} is not in the archive`);
  if (size !== bytes)
    throw new PickleError(`storage ${show(key)} has ${size} bytes instead of the ${bytes} that are named`);
  return new TorchStorage(key, element, bytes);
}

/** From (storage, offset, sizes, strides, ..). @param dtype of an untyped storage */
function tensorOf([storage, offset, shape, strides]: readonly unknown[], dtype?: unknown): TorchTensor {
  if (!(storage instanceof TorchStorage)) throw new PickleError("a tensor has no storage");
  const named = dtype instanceof PickleGlobal ? dtype.name.replace(/^torch\./, "") : undefined;
  const type = storage.type ?? named ?? "nothing";
  if (!Object.hasOwn(ELEMENT_BYTES, type)) throw new PickleError(`tensors of ${show(type)} are not read`);
  if (!isCounts(shape) || !isCounts(strides) || shape.length !== strides.length || !isCount(offset))
    throw new PickleError("sizes, strides or offset of a tensor are no whole numbers of at least 0");
  const available = Math.floor(storage.bytes / ELEMENT_BYTES[type as ElementType]);
  const tensor = new TorchTensor(storage, type as ElementType, shape, strides, offset);
  const last = shape.reduce((at, n, k) => at + (n - 1) * strides[k], offset);
  const fits = tensor.size === 0 ? offset <= available : last < available;
  // Sums and products of whole numbers past 2^53 are inexact, but not small.
  if (!fits || !(tensor.size <= Math.max(available, LARGEST_EXPANDED)))
    throw new PickleError(
      `a tensor ${show(shape)} with strides ${show(strides)} reaches outside of its storage of ${available} elements`,
    );
  return tensor;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= MAX_RANK && value.every(isCount);
}
