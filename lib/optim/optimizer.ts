import { copyInto } from "../nn/module.js";
import { zeros } from "../ops/index.js";
import { isTensor, requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireEntries, requireNumber, requireOptions } from "../util/check.js";
import { ArgumentError, AutogradError, ConfigError, show } from "../util/errors.js";

/** Parameters with settings of their own; what a group leaves out comes from the optimiser's options. */
export type ParameterGroup<O> = Partial<O> & { params: Iterable<Tensor> };

interface Group<O> {
  params: Tensor[];
  /** May be changed between steps, as a schedule does with `lr`. */
  options: O;
}

/**
 * What all optimisers share: groups, and per parameter a set of state tensors (`slots`) that start as zeros. A step updates
 * every parameter that has a gradient, in place and in one pass.
 */
export abstract class Optimizer<O extends { lr: number }> {
  readonly groups: Group<O>[];
  /** Steps taken. */
  steps = 0;
  readonly #slots: readonly string[];
  readonly #state = new Map<Tensor, Tensor[]>();

  constructor(
    name: string,
    params: Iterable<Tensor> | Iterable<ParameterGroup<O>>,
    defaults: O,
    slots: readonly string[],
  ) {
    const list = requireEntries(name, "params", params) as (Tensor | ParameterGroup<O>)[];
    const groups = list.every((entry) => isTensor(entry))
      ? [{ params: list as Tensor[] } as unknown as ParameterGroup<O>]
      : (list as ParameterGroup<O>[]);
    const seen = new Set<Tensor>();
    this.groups = groups.map((group) => {
      if (group === null || typeof group !== "object" || isTensor(group) || group.params === undefined)
        throw new ArgumentError(name, "a group is not valid", "{params, ...options}", show(group));
      const { params: own, ...options } = group;
      requireOptions(name, options, Object.keys(defaults));
      const tensors = requireEntries(name, "params of a group", own).map((t) =>
        requireTensor(name, "a parameter", t),
      );
      for (const t of tensors) {
        if (seen.has(t)) throw new ArgumentError(name, "a parameter is named twice", "each parameter once");
        if (!t.requiresGrad)
          throw new AutogradError(name, "a parameter does not require a gradient", "requiresGrad");
        seen.add(t);
      }
      const merged = { ...defaults, ...options };
      this.check(merged);
      return { params: tensors, options: merged };
    });
    this.#slots = slots;
    for (const t of seen)
      this.#state.set(
        t,
        slots.map(() => zeros(t.shape, { dtype: t.dtype }).keep()),
      );
  }

  protected abstract check(options: O): void;
  /** Updates parameters in place; `slots[k]` lists the k-th state tensor of each. */
  protected abstract update(options: O, params: Tensor[], grads: Tensor[], slots: Tensor[][]): void;

  /** One update of all parameters that have a gradient. */
  step(): void {
    this.steps++;
    for (const { params, options } of this.groups) {
      this.check(options);
      const active = params.filter((t) => t.grad !== null);
      if (active.length === 0) continue;
      const states = active.map((t) => this.#state.get(t) as Tensor[]);
      this.update(
        options,
        active,
        active.map((t) => t.grad as Tensor),
        this.#slots.map((_, k) => states.map((s) => s[k])),
      );
    }
  }

  /** Frees all gradients. */
  zeroGrad(): void {
    for (const t of this.#state.keys()) {
      t.grad?.dispose();
      t.grad = null;
    }
  }

  /** Learning rate of all groups. */
  set lr(value: number) {
    for (const group of this.groups) group.options.lr = value;
  }

  /** The state tensors, named `slot.index` by the parameters' order, not copies; `steps` is apart. */
  stateDict(): Map<string, Tensor> {
    const entries = [...this.#state.values()].flatMap((state, index) =>
      state.map((t, k): [string, Tensor] => [`${this.#slots[k]}.${index}`, t]),
    );
    return new Map(entries);
  }

  loadStateDict(state: ReadonlyMap<string, Tensor>, steps: number): void {
    const own = this.stateDict();
    for (const [name, target] of own) {
      const source = state.get(name);
      if (!source || show(source.shape) !== show(target.shape))
        throw new ConfigError(
          "loadStateDict",
          `optimiser state ${name} does not fit`,
          show(target.shape),
          source ? show(source.shape) : "nothing",
        );
    }
    for (const [name, target] of own) copyInto(target, state.get(name) as Tensor);
    this.steps = steps;
  }

  dispose(): void {
    for (const state of this.#state.values()) for (const t of state) t.dispose();
  }
}

export function requireRate(op: string, what: string, value: number, max = Infinity): void {
  requireNumber(op, what, value, 0, max);
}
