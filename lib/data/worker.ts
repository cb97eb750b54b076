/** The thread behind a worker of the pool: does tasks in the order in which they come. */
import { parentPort, workerData } from "node:worker_threads";
import sharp from "sharp";
import { type Task, TaskRunner, type ThreadSetup } from "./sample_task.js";
import { packError } from "./thread_error.js";

sharp.concurrency(1); // the pool's threads are the parallelism; more of them fight for the cores
sharp.cache(false); // every image is read once

const runner = new TaskRunner(workerData as ThreadSetup);
let last: Promise<void> = Promise.resolve();

parentPort?.on("message", ({ id, task }: { id: number; task: Task }) => {
  last = last.then(() => answer(id, task));
});

async function answer(id: number, task: Task): Promise<void> {
  try {
    const { failures, targets, sizes } = await runner.run(task);
    const packed = failures.map(({ index, error }) => ({ index, error: packError(error) }));
    parentPort?.postMessage(
      { id, failures: packed, targets, sizes },
      targets ? [targets.buffer as ArrayBuffer] : [],
    );
  } catch (error) {
    parentPort?.postMessage({ id, error: packError(error as Error) });
  }
}
