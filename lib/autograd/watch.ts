import type { Tensor } from "../tensor/tensor.js";
import type { Node } from "./node.js";

/** Sees what ops compute, one after the other. Ops that it runs itself are not watched. */
export interface OpWatcher {
  forward(op: string, inputs: readonly (Tensor | null)[], output: Tensor): void;
  /** @param gradients of the node's inputs, in order; null where none is needed */
  backward(node: Node, gradients: readonly (Tensor | null)[]): void;
}

/** Whoever watches. Nobody does in normal runs, and then a look at this variable is all that watching costs. */
export let watcher: OpWatcher | null = null;

/** Runs `fn` with `own` watching. What it throws ends `fn`. */
export function watchOps<R>(own: OpWatcher, fn: () => R): R {
  const before = watcher;
  const unwatched = <A extends unknown[]>(look: (...args: A) => void) => {
    return (...args: A): void => {
      watcher = null;
      try {
        look(...args);
      } finally {
        watcher = watching;
      }
    };
  };
  const watching: OpWatcher = {
    forward: unwatched((...args: Parameters<OpWatcher["forward"]>) => own.forward(...args)),
    backward: unwatched((...args: Parameters<OpWatcher["backward"]>) => own.backward(...args)),
  };
  watcher = watching;
  try {
    return fn();
  } finally {
    watcher = before;
  }
}
