import { availableParallelism } from "node:os";
import { sharedBytes } from "./image_set.js";
import type { Preparation } from "./preparation.js";
import type { Failure } from "./sample_task.js";
import { WorkerPool } from "./worker_pool.js";

/** Files that a thread decodes at a time. */
const FILES_PER_TASK = 16;

/** Some neighbouring files. */
interface DecodedFiles {
  /** Height and width as decoded; 0 and 0 of a damaged file. */
  sizes: [number, number][];
  /** Damaged files, by their index here. */
  failures: Failure[];
  /** [files, size, size, channels] as the preparation fits them; empty without one. */
  bytes: Uint8Array;
}

/** Decodes whole files with all cores, and gives them in their order. */
export async function* decodeFiles(
  paths: readonly string[],
  channels: number,
  prepare?: Preparation,
): AsyncIterable<DecodedFiles> {
  const workers = Math.min(availableParallelism(), Math.ceil(paths.length / FILES_PER_TASK));
  const pool = new WorkerPool(workers, { prepare: prepare ?? UNUSED, channels, source: undefined });
  const start = async (begin: number): Promise<DecodedFiles> => {
    const part = paths.slice(begin, begin + FILES_PER_TASK);
    const bytes = sharedBytes(prepare ? part.length * prepare.size ** 2 * channels : 0);
    const into = prepare && bytes;
    const { failures, sizes = [] } = await pool.run({ kind: "decode", paths: part, into });
    return { sizes, failures, bytes };
  };
  const running: Promise<DecodedFiles>[] = [];
  try {
    for (let begin = 0; begin < paths.length; begin += FILES_PER_TASK) {
      const task = start(begin);
      task.catch(() => {}); // it is awaited later, in its turn
      running.push(task);
      if (running.length > 2 * workers) yield await (running.shift() as Promise<DecodedFiles>);
    }
    for (const task of running) yield await task;
  } finally {
    await pool.dispose();
  }
}

/** A thread has a preparation, also for tasks that do not prepare. */
const UNUSED: Preparation = {
  ...{ size: 1, fit: "crop", cropShare: 1, interpolation: "bilinear" },
  ...{ mean: [0], std: [1] },
};
