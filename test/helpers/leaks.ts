import * as assert from "uvu/assert";
import { keptConstants } from "../../lib/ops/constants.js";
import { memory } from "../../lib/tensor/memory.js";
import { scope } from "../../lib/tensor/scope.js";

/** Tensors that somebody has to free: not the constants that ops keep. */
function owned(): number {
  return memory.liveTensors - keptConstants();
}

/** A test whose tensors are all freed when it ends; it fails if one is not. */
export function leakFree<A extends unknown[]>(body: (...args: A) => void): (...args: A) => void {
  return (...args) => {
    const before = owned();
    scope(() => body(...args));
    assert.is(owned(), before, "tensors alive after the test");
  };
}

/** Runs `body`, which must throw an error of the given class, and returns the error. */
export function thrown<E extends Error>(
  body: () => unknown,
  ErrorClass: new (...args: never[]) => E,
  what = "",
): E {
  try {
    body();
  } catch (error) {
    assert.instance(
      error,
      ErrorClass,
      `${what}: threw ${(error as Error)?.name}: ${(error as Error)?.message}`,
    );
    return error as E;
  }
  return assert.unreachable(`${what}: did not throw ${ErrorClass.name}`) as never;
}
