import { closeSync } from "node:fs";
import { fromTypedArray, type Tensor } from "../../tensor/tensor.js";
import { requireOneOf, requireOptions } from "../../util/check.js";
import { ArgumentError, show } from "../../util/errors.js";
import { openRegularFile } from "../safetensors_file.js";
import { Archive, fail } from "./archive.js";
import { elementsOf } from "./elements.js";
import { TorchTensor, torchMeaning } from "./objects.js";
import { PickleError, PickleObject, unpickle } from "./pickle.js";

export { TorchTensor } from "./objects.js";
export { PickleGlobal, PickleObject } from "./pickle.js";

/** Where training scripts keep the weights and their moving average. */
const KEYS = {
  trained: ["model", "state_dict"],
  ema: ["model_ema", "state_dict_ema"],
} as const;
/** What DataParallel puts before every name. */
const WRAPPER = "module.";

export interface TorchCheckpoint {
  /** The state dict by name, without the prefix of a parallel wrapper. */
  tensors: Map<string, Tensor>;
  /** The key that it was found under; none for a file that is the state dict itself. */
  key: string | undefined;
  /**
   * All that was saved, as data: dicts are Maps, lists arrays, tuples frozen arrays; tensors are {@link TorchTensor} (not read),
   * objects of other classes (configurations, namespaces) {@link PickleObject}.
   */
  contents: unknown;
}

/**
 * Reads the state dict of a checkpoint that `torch.save` wrote (zip format, torch 1.6 or later). Nothing in the file is executed;
 * only the storages of the chosen state dict are read. float16 becomes float32, int16 and int8 int32.
 * @param options `weights`: the trained ones (default; under `model`, `state_dict` or bare) or `ema`, their moving average
 *   (`model_ema`, `state_dict_ema`)
 * @throws {FileError} naming the path, for a file that is damaged, hostile, or of another kind (legacy format, TorchScript)
 */
export async function loadTorch(
  path: string,
  options: { weights?: "trained" | "ema" } = {},
): Promise<TorchCheckpoint> {
  const op = "loadTorch";
  if (typeof path !== "string") throw new ArgumentError(op, "path is not valid", "a string", show(path));
  requireOptions(op, options, ["weights"]);
  const weights = requireOneOf(op, "weights", options.weights ?? "trained", ["trained", "ema"]);
  const { handle, fileSize } = openRegularFile(op, path);
  try {
    const archive = await Archive.open(path, handle, fileSize);
    const root = rootOf(archive);
    const contents = read(archive, root);
    const { key, state } = stateDictIn(path, contents, weights);
    return { tensors: loadTensors(archive, root, withoutWrapper(state)), key, contents };
  } finally {
    closeSync(handle);
  }
}

/** The folder that torch puts everything in: that of data.pkl. */
function rootOf(archive: Archive): string {
  const names = [...archive.names()];
  const roots = names.filter((name) => /^[^/]+\/data\.pkl$/.test(name)).map((name) => name.split("/")[0]);
  const [root] = roots;
  if (roots.length !== 1 || names.some((name) => !name.startsWith(`${root}/`)))
    throw fail(archive.path, "is no torch checkpoint", "one folder with a data.pkl", `${roots.length}`);
  return root;
}

function read(archive: Archive, root: string): unknown {
  const { path } = archive;
  if (archive.sizeOf(`${root}/byteorder`) !== undefined) {
    const order = Buffer.from(archive.read(`${root}/byteorder`).subarray(0, 16)).toString("latin1");
    if (order !== "little") throw fail(path, "has another byte order", "little", order);
  }
  try {
    return unpickle(
      archive.read(`${root}/data.pkl`),
      torchMeaning((key) => archive.sizeOf(`${root}/data/${key}`)),
    );
  } catch (error) {
    if (error instanceof PickleError) throw fail(path, error.message);
    throw error;
  }
}

function stateDictIn(
  path: string,
  contents: unknown,
  weights: "trained" | "ema",
): { key?: string; state: Map<string, TorchTensor> } {
  const expected =
    weights === "ema" ? KEYS.ema.join(" or ") : `${KEYS.trained.join(", ")} or a bare state dict`;
  if (contents instanceof PickleObject)
    throw fail(path, `holds a whole ${contents.type}`, "its state_dict()");
  if (!(contents instanceof Map)) throw fail(path, "holds no state dict", expected, show(contents));
  const key = KEYS[weights].find((name) => contents.has(name));
  if (
    key === undefined &&
    (weights === "ema" || ![...contents.values()].some((v) => v instanceof TorchTensor))
  )
    throw fail(path, "has no such weights", expected, show([...contents.keys()]));
  const state: unknown = key === undefined ? contents : contents.get(key);
  if (state instanceof PickleObject)
    throw fail(path, `holds a whole ${state.type} under ${key}`, "its state_dict()");
  if (!(state instanceof Map)) throw fail(path, `${key} is no state dict`, "a dict of tensors", show(state));
  for (const [name, value] of state)
    if (typeof name !== "string" || !(value instanceof TorchTensor))
      throw fail(path, `${show(name)} in the state dict is no tensor`, "tensors by name", show(value));
  return { key, state };
}

function withoutWrapper(state: Map<string, TorchTensor>): Map<string, TorchTensor> {
  if (![...state.keys()].every((name) => name.startsWith(WRAPPER))) return state;
  return new Map([...state].map(([name, tensor]) => [name.slice(WRAPPER.length), tensor]));
}

/** One storage at a time: each is read once, however many tensors share it, and let go. */
function loadTensors(archive: Archive, root: string, state: Map<string, TorchTensor>): Map<string, Tensor> {
  const byStorage = new Map<string, [string, TorchTensor][]>();
  for (const entry of state) {
    const { key } = entry[1].storage;
    const sharing = byStorage.get(key);
    if (sharing) sharing.push(entry);
    else byStorage.set(key, [entry]);
  }
  const loaded = new Map<string, Tensor>();
  try {
    for (const [key, sharing] of byStorage) {
      const bytes = archive.read(`${root}/data/${key}`);
      for (const [name, tensor] of sharing) {
        const { data, dtype } = elementsOf(tensor, bytes);
        loaded.set(
          name,
          fromTypedArray("loadTorch", data, { shape: [...tensor.shape], dtype, device: "cpu" }),
        );
      }
    }
  } catch (error) {
    for (const t of loaded.values()) t.dispose();
    throw error;
  }
  return new Map([...state.keys()].map((name) => [name, loaded.get(name) as Tensor]));
}
