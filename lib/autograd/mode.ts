import { AsyncLocalStorage } from "node:async_hooks";
import { requireFunction } from "../util/check.js";

const recording = new AsyncLocalStorage<boolean>();

/** Whether ops record themselves on the tape. */
export function gradEnabled(): boolean {
  return recording.getStore() ?? true;
}

/** Runs `fn`, sync or async, without recording: its results need no gradient and keep nothing for backward. */
export function noGrad<R>(fn: () => R): R {
  requireFunction("noGrad", "callback", fn);
  return recording.run(false, fn);
}

/** Runs `fn` with recording on, also inside of `noGrad`. */
export function enableGrad<R>(fn: () => R): R {
  requireFunction("enableGrad", "callback", fn);
  return recording.run(true, fn);
}
