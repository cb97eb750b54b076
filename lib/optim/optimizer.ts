import { copyInto } from "../nn/module.js";
import { full, zeros } from "../ops/index.js";
import { isTensor, requireTensor, type Tensor, writeTypedArray } from "../tensor/tensor.js";
import { requireEntries, requireNumber, requireOptions } from "../util/check.js";
import { ArgumentError, AutogradError, ConfigError, show } from "../util/errors.js";

/** Room for the numbers that change from step to step. */
const RATES = 3;

/** Parameters with settings of their own; what a group leaves out comes from the optimiser's options. */
export type ParameterGroup<O> = Partial<O> & { params: Iterable<Tensor> };

interface Group<O> {
  params: Tensor[];
  /**
   * What changes from step to step, as a float64 tensor on the parameters' device: a recorded step (tensor/graph.ts) reads it anew
   * at every replay.
   */
  rates: Tensor;
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
      const device = tensors[0]?.device ?? "cpu";
      return {
        params: tensors,
        options: merged,
        rates: full([RATES], 0, { dtype: "float64", device }).keep(),
      };
    });
    this.#slots = slots;
    for (const t of seen)
      this.#state.set(
        t,
        slots.map(() => zeros(t.shape, { dtype: t.dtype, device: t.device }).keep()),
      );
  }

  protected abstract check(options: O): void;
  /** The numbers that change from step to step, at most {@link RATES}: the learning rate and what follows from `steps`. */
  protected abstract ratesOf(options: O): number[];
  /**
   * Updates parameters in place; `slots[k]` lists the k-th state tensor of each. Nothing is changed if `gate`, a tensor of one
   * element, is not finite.
   */
  protected abstract update(
    options: O,
    rates: Tensor,
    gate: Tensor | null,
    params: Tensor[],
    grads: Tensor[],
    slots: Tensor[][],
  ): void;

  /**
   * One update of all parameters that have a gradient.
   * @param options `gate`: the update is left out if this tensor of one element (such as the gradients' norm) is not finite
   */
  step(options: { gate?: Tensor | null } = {}): void {
    requireOptions("step", options, ["gate"]);
    const { gate = null } = options;
    if (gate) requireTensor("step", "gate", gate);
    this.advance();
    this.apply(gate);
  }

  /** The first half of `step`: counts it and sets the rates. */
  advance(): void {
    this.steps++;
    for (const { options, rates } of this.groups) {
      this.check(options);
      const values = new Float64Array(RATES);
      values.set(this.ratesOf(options));
      writeTypedArray("step", rates, values);
    }
  }

  /** The second half: the update itself, which can be recorded. */
  apply(gate: Tensor | null): void {
    for (const { params, options, rates } of this.groups) {
      const active = params.filter((t) => t.grad !== null);
      if (active.length === 0) continue;
      const states = active.map((t) => this.#state.get(t) as Tensor[]);
      this.update(
        options,
        rates,
        gate,
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
    for (const { rates } of this.groups) rates.dispose();
  }
}

export function requireRate(op: string, what: string, value: number, max = Infinity): void {
  requireNumber(op, what, value, 0, max);
}
