/**
 * All-or-nothing file writes. A reader of `path` sees the whole old file or the whole new one, also after
 * `kill -9` or a power cut: the bytes go to a temporary file beside it, reach the disk, and only then take
 * over the name.
 */
import { randomUUID } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { FileError, show } from "../util/errors.js";

/** Node refuses a single write of 2 GiB or more. */
const LARGEST_WRITE = 2 ** 30;

/** `.NAME.PID.RANDOM.tmp`; the process id tells `sweepTemporaryFiles` whose file it was. */
const TEMPORARY_NAME = /^\..+\.([1-9]\d{0,8})\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tmp$/s;

/**
 * Replaces `path` by the concatenation of `chunks`, atomically and durably. Afterwards `path` is a new file:
 * a symbolic link there is replaced itself, and readers that had the old file open or mapped keep its bytes.
 * @throws {FileError} naming `path` and the system's code (ENOSPC, EROFS, EFBIG, EISDIR, ...). The old file is
 * then intact and the temporary file gone. The one exception is an error of the last step, the fsync of the
 * folder: the new file is whole and in place, but a power cut may bring the old one back.
 * An error of the `chunks` iterator itself has the same effect, and passes through as it is.
 */
export function writeFileAtomic(path: string, chunks: Iterable<Uint8Array>): void {
  using file = new Replacement(path);
  for (const chunk of chunks) file.write(chunk);
  file.commit();
}

/** {@link writeFileAtomic} of chunks that have to be waited for. */
export async function writeFileAtomicAsync(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  using file = new Replacement(path);
  for await (const chunk of chunks) file.write(chunk);
  file.commit();
}

/**
 * Removes the temporary files that writers in `folder` left behind when they were killed, and returns their
 * names. Files of live processes stay. Process ids mean something on one machine only, so call it where no
 * other machine (or container) writes to the same folder. A folder that does not exist has nothing to sweep.
 * @throws {FileError} if the folder cannot be listed, or a stale file cannot be removed.
 */
export function sweepTemporaryFiles(folder: string): string[] {
  const removed: string[] = [];
  try {
    for (const name of readdirSync(folder)) {
      const owner = TEMPORARY_NAME.exec(name)?.[1];
      const path = join(folder, name);
      if (owner === undefined || !isStale(path, Number(owner))) continue;
      rmSync(path, { force: true });
      removed.push(name);
    }
  } catch (error) {
    if (codeOf(error) !== "ENOENT")
      throw asFileError("sweepTemporaryFiles", folder, "cannot be swept", error);
  }
  return removed;
}

/**
 * A system error as a FileError of `op` that names `path` and the error's code. What has no code is no fault of
 * the file, and stays itself.
 */
export function asFileError(op: string, path: string, problem: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === undefined) return error;
  const detail = (error as Error).message.replace(`${code}: `, "");
  const fileError = new FileError(op, `${show(path)} ${problem} (${code}: ${detail})`);
  fileError.cause = error;
  return fileError;
}

/** The new file beside the old one. What is not committed is removed at the end. */
class Replacement {
  readonly #path: string;
  readonly #temporary: string;
  readonly #folder: number;
  readonly #handle: number;
  #renamed = false;

  constructor(path: string) {
    const folder = dirname(path);
    this.#path = path;
    this.#temporary = join(folder, `.${basename(path)}.${process.pid}.${randomUUID()}.tmp`);
    // The folder is opened first, so that one which cannot be synced fails before anything is replaced.
    this.#folder = this.#attempt(() => openSync(folder, "r"));
    try {
      this.#handle = this.#attempt(() => openSync(this.#temporary, "wx"));
    } catch (error) {
      closeSync(this.#folder);
      throw error;
    }
  }

  write(chunk: Uint8Array): void {
    this.#attempt(() => writeFully(this.#handle, chunk));
  }

  commit(): void {
    this.#attempt(() => {
      fsyncSync(this.#handle);
      renameSync(this.#temporary, this.#path);
      this.#renamed = true;
      syncFolder(this.#folder);
    });
  }

  [Symbol.dispose](): void {
    closeSync(this.#handle);
    closeSync(this.#folder);
    try {
      if (!this.#renamed) unlinkSync(this.#temporary);
    } catch {
      // The first error is the one to report; the next sweep removes what this could not.
    }
  }

  #attempt<T>(step: () => T): T {
    try {
      return step();
    } catch (error) {
      throw asFileError("writeFileAtomic", this.#path, "cannot be written", error);
    }
  }
}

function writeFully(handle: number, chunk: Uint8Array): void {
  let done = 0;
  while (done < chunk.byteLength) {
    const wanted = Math.min(chunk.byteLength - done, LARGEST_WRITE);
    // A disk that fills up takes part of the bytes now and reports ENOSPC on the next call.
    done += writeSync(handle, chunk, done, wanted);
  }
}

function syncFolder(handle: number): void {
  try {
    fsyncSync(handle);
  } catch (error) {
    // Some network file systems cannot sync a folder, and say so with EINVAL; their renames are all there is.
    if (codeOf(error) !== "EINVAL") throw error;
  }
}

function isStale(path: string, owner: number): boolean {
  const file = lstatSync(path, { throwIfNoEntry: false });
  if (file === undefined || !file.isFile()) return false;
  // In a container the process before a restart often had this very id: what it wrote is older than we are.
  if (owner === process.pid) return file.mtimeMs < performance.timeOrigin;
  try {
    process.kill(owner, 0);
    return false;
  } catch (error) {
    return codeOf(error) === "ESRCH";
  }
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" ? code : undefined;
}
