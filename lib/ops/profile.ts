/**
 * Counting of multiply-accumulates, by module. Convention (as the published figures have it): convolutions and linear maps by
 * their products; layer norm 5 per element; a selective scan 9 L D N + L D; the head's average pool and the pooled quadrant
 * scores 1 per element; the quadrant mask 1 per token. Everything else counts nothing.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { requireFunction } from "../util/check.js";

interface Profile {
  /** Dotted name of the module that is running. */
  module: string;
  byModule: Map<string, number>;
}
const active = new AsyncLocalStorage<Profile>();

/** Adds to the count of the module that is running, if anybody counts. */
export function countMacs(n: number): void {
  const profile = active.getStore();
  if (!profile) return;
  profile.byModule.set(profile.module, (profile.byModule.get(profile.module) ?? 0) + n);
}

/** Runs `fn` as the module of the given name. */
export function inModule<R>(name: string, fn: () => R): R {
  const profile = active.getStore();
  if (!profile) return fn();
  const around = profile.module;
  profile.module = name;
  try {
    return fn();
  } finally {
    profile.module = around;
  }
}

/** Dotted name of the module that is running, if anybody counts. */
export function currentModule(): string {
  return active.getStore()?.module ?? "";
}

/** Multiply-accumulates of everything that `fn` runs, by the dotted name of the module; "" is outside of all. */
export function profileMacs(fn: () => unknown): Map<string, number> {
  requireFunction("profileMacs", "callback", fn);
  const profile: Profile = { module: "", byModule: new Map() };
  active.run(profile, fn);
  return profile.byModule;
}
