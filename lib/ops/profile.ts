/**
 * Counting of multiply-accumulates, by module. Convention (as the published figures have it): convolutions and linear maps by
 * their products; layer norm 5 per element; a selective scan 9 L D N + L D; the head's average pool and the pooled quadrant
 * scores 1 per element; the quadrant mask 1 per token. Everything else counts nothing.
 */
import { AsyncLocalStorage } from "node:async_hooks";

interface Profile {
  path: string[];
  byModule: Map<string, number>;
}
const active = new AsyncLocalStorage<Profile>();

/** Adds to the count of the module that is running, if anybody counts. */
export function countMacs(n: number): void {
  const profile = active.getStore();
  if (!profile) return;
  const name = profile.path.join(".");
  profile.byModule.set(name, (profile.byModule.get(name) ?? 0) + n);
}

/** Runs `fn` as part of the module `name` of the one that is running. */
export function inModule<R>(name: string, fn: () => R): R {
  const profile = active.getStore();
  if (!profile) return fn();
  profile.path.push(name);
  try {
    return fn();
  } finally {
    profile.path.pop();
  }
}

/** Multiply-accumulates of everything that `fn` runs, by the dotted name of the module; "" is outside of all. */
export function profileMacs(fn: () => unknown): Map<string, number> {
  const profile: Profile = { path: [], byModule: new Map() };
  active.run(profile, fn);
  return profile.byModule;
}
