/**
 * Who frees a tensor. Inside `scope()` the scope does, at its end; outside of every scope the caller does with
 * `dispose()`, and the garbage collector is the net below both. Finalizers never run inside a synchronous loop, so
 * loops belong into scopes.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { requireFunction } from "../util/check.js";
import { isTensor, type Tensor } from "./tensor.js";

export class Scope {
  readonly #tensors: Tensor[] = [];
  readonly #parent: Scope | undefined;
  #open = true;

  constructor(parent: Scope | undefined) {
    this.#parent = parent;
  }

  add(tensor: Tensor): void {
    this.#tensors.push(tensor);
  }

  /** Frees everything but `kept`, which the nearest open scope around takes over. */
  close(kept: ReadonlySet<Tensor>): void {
    this.#open = false;
    let heir = this.#parent;
    while (heir && !heir.#open) heir = heir.#parent;
    for (const tensor of this.#tensors) {
      if (!tensor.ownedBy(this)) continue;
      if (kept.has(tensor)) tensor.moveTo(heir);
      else tensor.dispose();
    }
    this.#tensors.length = 0;
  }
}

const current = new AsyncLocalStorage<Scope>();

export function currentScope(): Scope | undefined {
  return current.getStore();
}

/**
 * Runs `fn` and frees every tensor made in it that it does not return: as a tensor, or inside of arrays, plain objects,
 * Maps and Sets. Also when it throws. With an async `fn` the scope lasts until its promise settles; concurrent scopes do
 * not see each other's tensors.
 *
 * @returns what `fn` returns; its tensors belong to the scope around, if there is one.
 */
export function scope<R>(fn: () => R): R {
  requireFunction("scope", "callback", fn);
  const inner = new Scope(current.getStore());
  let result: R;
  try {
    result = current.run(inner, fn);
  } catch (error) {
    inner.close(new Set());
    throw error;
  }
  if (result instanceof Promise)
    return result.then(
      (value) => {
        inner.close(tensorsIn(value));
        return value;
      },
      (error) => {
        inner.close(new Set());
        throw error;
      },
    ) as R;
  inner.close(tensorsIn(result));
  return result;
}

/** All tensors that `value` holds. */
function tensorsIn(value: unknown): Set<Tensor> {
  const found = new Set<Tensor>();
  const seen = new Set<object>();
  const visit = (v: unknown): void => {
    if (v === null || typeof v !== "object" || seen.has(v)) return;
    if (isTensor(v)) {
      found.add(v);
      return;
    }
    seen.add(v);
    if (Array.isArray(v) || v instanceof Set) for (const item of v) visit(item);
    else if (v instanceof Map) for (const item of v.values()) visit(item);
    else if (Object.getPrototypeOf(v) === Object.prototype) for (const item of Object.values(v)) visit(item);
  };
  visit(value);
  return found;
}
