import * as assert from "uvu/assert";

/** The promise must be rejected with an error of the class whose message fits. */
export async function rejects<E extends Error>(
  promise: Promise<unknown>,
  ErrorClass: new (...args: never[]) => E,
  message: RegExp,
): Promise<E> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, ErrorClass, `threw ${(error as Error)?.name}: ${(error as Error)?.message}`);
    assert.match((error as Error).message, message);
    return error as E;
  }
  return assert.unreachable(`was not rejected with ${ErrorClass.name}`) as never;
}
