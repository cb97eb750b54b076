import { availableParallelism } from "node:os";
import type { DataSource } from "../data/index.js";
import type { TrainConfig } from "./config.js";

/** More threads than this rarely find work. */
const MAX_WORKERS = 16;

/** Threads that prepare images, if the configuration does not say: none where the CPU that computes would only share its cores. */
export function workersOf({ workers, device }: TrainConfig, { train }: DataSource): number {
  if (workers !== undefined) return workers;
  if (device === "cpu" && train.kind !== "files") return 0;
  return Math.max(1, Math.min(MAX_WORKERS, availableParallelism() - 1));
}
