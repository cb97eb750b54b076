import * as assert from "uvu/assert";
import { memory } from "../../lib/tensor/memory.js";
import { scope } from "../../lib/tensor/scope.js";

/** A test whose tensors are all freed when it ends; it fails if one is not. */
export function leakFree(body: () => void): () => void {
  return () => {
    const before = memory.liveTensors;
    scope(body);
    assert.is(memory.liveTensors, before, "tensors alive after the test");
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
