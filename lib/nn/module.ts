import { requireGrad } from "../autograd/backward.js";
import { launchInto } from "../ops/define.js";
import { cast, to } from "../ops/index.js";
import { inModule } from "../ops/profile.js";
import { type DType, isFloat, requireDType } from "../tensor/dtype.js";
import { scope } from "../tensor/scope.js";
import { sameShape, stridesOf } from "../tensor/shape.js";
import { type Device, isTensor, requireDevice, requireTensor, type Tensor } from "../tensor/tensor.js";
import { nearest, requireOptions } from "../util/check.js";
import { ArgumentError, ConfigError, DTypeError, ShapeError, show } from "../util/errors.js";

export type StateDict = Map<string, Tensor>;

export interface LoadResult {
  /** Names that were copied. */
  matched: string[];
  missing: string[];
  unexpected: string[];
  /** Names on both sides whose shapes differ: [name, given, own]. */
  reshaped: [string, readonly number[], readonly number[]][];
}

/** What does not fit, a line for each kind, of at most so many names. */
export function differences({ missing, unexpected, reshaped }: LoadResult, most: number): string {
  const shapes = reshaped.map(([name, given, own]) => `${name} ${show(given)} for ${show(own)}`);
  return Object.entries({ missing, unexpected, "other shape": shapes })
    .filter(([, names]) => names.length > 0)
    .map(
      ([what, names]) =>
        `\n  ${what} (${names.length}): ${names.slice(0, most).join(", ")}${names.length > most ? ", ..." : ""}`,
    )
    .join("");
}

/** A tensor that training changes: a leaf that requires a gradient and outlives every scope. */
export function parameter(initial: Tensor): Tensor {
  return requireGrad(requireTensor("parameter", "initial value", initial).keep());
}

/**
 * A part of a model: its tensors and modules are simply its properties (also in arrays), and their names, joined by dots, are
 * the names of the state dict.
 */
export abstract class Module {
  /** Whether dropout and its like are on. Set by `train()` and `eval()`. */
  training = true;

  abstract forward(...inputs: never[]): unknown;

  /** Direct parts, in the order of their declaration. */
  *children(): Generator<[string, Module | Tensor]> {
    for (const [name, value] of Object.entries(this)) yield* partsOf(name, value);
  }

  *namedModules(prefix = ""): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, part] of this.children())
      if (part instanceof Module) yield* part.namedModules(prefix ? `${prefix}.${name}` : name);
  }

  /** All tensors with their names: parameters, and tensors that training leaves alone. */
  *#namedTensors(prefix = ""): Generator<[string, Tensor]> {
    for (const [name, part] of this.children()) {
      const full = prefix ? `${prefix}.${name}` : name;
      if (part instanceof Module) yield* part.#namedTensors(full);
      else yield [full, part];
    }
  }

  namedParameters(): Map<string, Tensor> {
    return new Map([...this.#namedTensors()].filter(([, t]) => t.requiresGrad));
  }

  parameters(): Tensor[] {
    const found: Tensor[] = [];
    this.#addParameters(found);
    return found;
  }

  /** Without names, which would take longer than all else here: every step asks. */
  #addParameters(found: Tensor[]): void {
    for (const [, part] of this.children())
      if (part instanceof Module) part.#addParameters(found);
      else if (part.requiresGrad) found.push(part);
  }

  /** The module's own tensors by name, not copies. */
  stateDict(): StateDict {
    return new Map(this.#namedTensors());
  }

  /**
   * Copies values into the module's tensors; floating dtypes are converted.
   * @param state tensors by name, a Map or an object
   * @param options `strict` (default true): every name must be on both sides, in one shape; else what fits is copied
   * @throws {ConfigError} listing what is missing, unexpected or of another shape; nothing is changed then
   */
  loadStateDict(
    state: ReadonlyMap<string, Tensor> | Record<string, Tensor>,
    options: { strict?: boolean } = {},
  ): LoadResult {
    const op = "loadStateDict";
    requireOptions(op, options, ["strict"]);
    if (state === null || typeof state !== "object")
      throw new ArgumentError(op, "state is not valid", "a Map of tensors", show(state));
    const given =
      state instanceof Map ? (state as ReadonlyMap<string, Tensor>) : new Map(Object.entries(state));
    const own = this.stateDict();
    const both = [...own.keys()].filter((name) => given.has(name));
    const missing = [...own.keys()].filter((name) => !given.has(name));
    const unexpected = [...given.keys()].filter((name) => !own.has(name));
    const matched: string[] = [];
    const reshaped: LoadResult["reshaped"] = [];
    for (const name of both) {
      const [target, source] = [own.get(name)!, given.get(name)!];
      if (!isTensor(source)) throw new ArgumentError(op, `${name} is not a tensor`, "a Tensor", show(source));
      if (sameShape(target.shape, source.shape)) matched.push(name);
      else reshaped.push([name, source.shape, target.shape]);
      if (isFloat(target.dtype) !== isFloat(source.dtype) && source.dtype !== "bfloat16")
        throw new DTypeError(op, `${name} has another kind of dtype`, target.dtype, source.dtype);
    }
    const result = { matched, missing, unexpected, reshaped };
    if ((options.strict ?? true) && missing.length + unexpected.length + reshaped.length > 0) {
      const [hint] = unexpected.map((name) => nearest(name, missing)).filter(Boolean);
      throw new ConfigError(
        op,
        `the state does not fit the module (${both.length} of ${own.size} names match)${differences(result, 8)}${hint ? `\n  nearest missing name: ${hint}` : ""}`,
      );
    }
    for (const name of matched) copyInto(own.get(name)!, given.get(name)!);
    return result;
  }

  train(mode = true): this {
    for (const [, module] of this.namedModules()) module.training = mode;
    return this;
  }
  eval(): this {
    return this.train(false);
  }

  /**
   * Replaces all tensors by ones on another device, or all floating ones by ones of another floating dtype. Optimisers made
   * before hold the old ones.
   */
  to(target: DType | Device): this {
    const onDevice = target === "cpu" || target === "cuda";
    if (onDevice) requireDevice("to", target);
    else if (!isFloat(requireDType("to", target)))
      throw new DTypeError("to", "modules compute in floats", "float32 or float64", target);
    const stays = (t: Tensor) => (onDevice ? t.device === target : !isFloat(t.dtype) || t.dtype === target);
    const moved = (t: Tensor): Tensor => {
      if (stays(t)) return t;
      const converted = scope(() => to(t.detach(), target)).keep();
      if (t.requiresGrad) requireGrad(converted);
      t.dispose();
      return converted;
    };
    for (const [, module] of this.namedModules()) replaceTensors(module, moved);
    return this;
  }

  zeroGrad(): void {
    for (const t of this.parameters()) {
      t.grad?.dispose();
      t.grad = null;
    }
  }

  /** Frees all tensors of the module and its parts. */
  dispose(): void {
    for (const [, part] of this.children()) part.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Runs `fn` with every part's `forward` known by its name, so that `profileMacs` can tell them apart. */
  withNames<R>(fn: () => R): R {
    const named: Module[] = [];
    for (const [name, part] of this.namedModules()) {
      if (part === this) continue;
      const forward = part.forward.bind(part) as (...inputs: never[]) => unknown;
      Object.defineProperty(part, "forward", {
        value: (...inputs: never[]) => inModule(name, () => forward(...inputs)),
        configurable: true,
      });
      named.push(part);
    }
    try {
      return fn();
    } finally {
      for (const part of named) Reflect.deleteProperty(part, "forward");
    }
  }
}

function* partsOf(name: string, value: unknown): Generator<[string, Module | Tensor]> {
  if (isTensor(value) || value instanceof Module) yield [name, value];
  else if (Array.isArray(value))
    for (let k = 0; k < value.length; k++) yield* partsOf(`${name}.${k}`, value[k]);
}

/** Replaces the tensors among the properties of a module, or the entries of a list in it: not those of modules inside. */
function replaceTensors(owner: object, replace: (t: Tensor) => Tensor): void {
  for (const [key, value] of Object.entries(owner)) {
    if (isTensor(value)) Object.assign(owner, { [key]: replace(value) });
    else if (Array.isArray(value)) replaceTensors(value, replace);
  }
}

/** Overwrites the elements of `target` with those of `source`, in its dtype. */
export function copyInto(target: Tensor, source: Tensor): void {
  requireTensor("copyInto", "target", target);
  requireTensor("copyInto", "source", source);
  if (!sameShape(target.shape, source.shape))
    throw new ShapeError("copyInto", "shapes differ", show(target.shape), show(source.shape));
  scope(() => {
    const same = to(cast(source.detach(), target.dtype), target.device);
    launchInto("strided_read", [same], [target], [0, target.rank, ...stridesOf(target.shape)]);
  });
}
