import { Worker } from "node:worker_threads";
import { DisposedError, LoaderError } from "../util/errors.js";
import { type Failure, type Task, type TaskResult, TaskRunner, type ThreadSetup } from "./sample_task.js";
import { type PackedError, unpackError } from "./thread_error.js";

interface Answer {
  id: number;
  error?: PackedError;
  failures: { index: number; error: PackedError }[];
  targets?: Float32Array;
  sizes?: [number, number][];
}

interface Member {
  worker: Worker;
  /** Waiting for answers, by the id of the task. */
  tasks: Map<number, { resolve(result: TaskResult): void; reject(error: Error): void }>;
}

/** Threads that do tasks; with none of them, tasks are done in the calling thread. */
export class WorkerPool {
  readonly #members: Member[];
  readonly #own: TaskRunner | undefined;
  #nextId = 0;
  #failed: Error | undefined;

  constructor(workers: number, setup: ThreadSetup) {
    this.#own = workers === 0 ? new TaskRunner(setup) : undefined;
    this.#members = Array.from({ length: workers }, () => this.#start(setup));
  }

  /** @throws what the task throws; {LoaderError} if a worker died, now or before */
  run(task: Task): Promise<TaskResult> {
    if (this.#failed) return Promise.reject(this.#failed);
    if (this.#own) return this.#own.run(task);
    const member = this.#members.reduce((least, one) => (one.tasks.size < least.tasks.size ? one : least));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      member.tasks.set(id, { resolve, reject });
      member.worker.ref();
      member.worker.postMessage({ id, task });
    });
  }

  async dispose(): Promise<void> {
    this.#fail(new DisposedError("Loader", "the loader was disposed"));
    await Promise.all(this.#members.map(({ worker }) => worker.terminate()));
  }

  #start(setup: ThreadSetup): Member {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { workerData: setup });
    const member: Member = { worker, tasks: new Map() };
    worker.on("message", (answer: Answer) => this.#answered(member, answer));
    worker.on("error", (error: Error) => this.#fail(died(error.message)));
    worker.on("exit", (code) => this.#fail(died(`exit code ${code}`)));
    worker.unref(); // idle workers do not keep a process alive
    return member;
  }

  #answered({ worker, tasks }: Member, { id, error, failures, targets, sizes }: Answer): void {
    const task = tasks.get(id);
    if (!task) return; // failed before; a worker that is being ended keeps the process alive until it has ended
    tasks.delete(id);
    if (tasks.size === 0) worker.unref();
    if (error) task.reject(unpackError(error));
    else {
      const unpacked = failures.map((failure) => ({
        ...failure,
        error: unpackError(failure.error) as Failure["error"],
      }));
      task.resolve({ failures: unpacked, targets, sizes });
    }
  }

  /** Ends all tasks, those to come too. The first reason counts. */
  #fail(reason: Error): void {
    this.#failed ??= reason;
    for (const { tasks } of this.#members) {
      for (const { reject } of tasks.values()) reject(this.#failed);
      tasks.clear();
    }
  }
}

function died(how: string): LoaderError {
  return new LoaderError("Loader", `a worker of the loader died: ${how}`);
}
