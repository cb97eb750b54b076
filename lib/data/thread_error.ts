import * as errors from "../util/errors.js";

/** An error as plain data, for another thread: structured cloning loses its class. */
export interface PackedError {
  name: string;
  message: string;
  stack: string | undefined;
  op?: string;
  expected?: string;
  got?: string;
}

export function packError(error: Error): PackedError {
  const { name, message, stack } = error;
  if (!(error instanceof errors.QuadMambaError)) return { name, message, stack };
  return { name, message, stack, op: error.op, expected: error.expected, got: error.got };
}

/** The same error, of the same class if it is one of ours. */
export function unpackError({ name, message, stack, op, expected, got }: PackedError): Error {
  const Class = (errors as Record<string, unknown>)[name] as typeof errors.QuadMambaError | undefined;
  const error = op !== undefined && Class ? new Class(op, "", expected, got) : new Error(message);
  return Object.assign(error, { message, stack });
}
