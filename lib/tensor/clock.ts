/** Time as a GPU sees it: without the host's part, and without waiting while it is taken. */
import { addon, type OpCost } from "../native/addon.js";
import { requireFunction } from "../util/check.js";
import { synchronize } from "./memory.js";
import { deviceCode, requireDevice } from "./tensor.js";

/**
 * Milliseconds that the GPU takes for the work of `fn`, one figure per repetition.
 * @param before runs before each repetition and is not timed: to flush caches, say
 */
export function timeOnDevice(fn: () => void, repetitions: number, before: () => void = () => {}): number[] {
  requireFunction("timeOnDevice", "callback", fn);
  const cuda = deviceCode(requireDevice("timeOnDevice", "cuda"));
  const events: [number, number][] = [];
  for (let k = 0; k < repetitions; k++) {
    before();
    const begin = addon.recordEvent(cuda);
    fn();
    events.push([begin, addon.recordEvent(cuda)]);
  }
  return events.map(([begin, end]) => addon.millisecondsBetween(cuda, begin, end));
}

/** What each kernel costs while `fn` runs on the GPU, the most expensive first. */
export function profileOnDevice(fn: () => void): OpCost[] {
  requireFunction("profileOnDevice", "callback", fn);
  const cuda = deviceCode(requireDevice("profileOnDevice", "cuda"));
  synchronize("cuda");
  addon.beginProfile(cuda);
  let costs: OpCost[] = [];
  try {
    fn();
  } finally {
    costs = addon.endProfile(cuda);
  }
  return costs.sort((a, b) => b.milliseconds - a.milliseconds);
}
