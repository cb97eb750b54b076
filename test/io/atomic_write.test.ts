import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { sweepTemporaryFiles, writeFileAtomic } from "../../lib/io/atomic_write.js";
import { FileError } from "../../lib/util/errors.js";

const UUID = "01234567-89ab-cdef-0123-456789abcdef";
const MODULE = new URL("../../lib/io/atomic_write.js", import.meta.url).href;

const test = suite<{ folder: string; path: string }>("atomic write");

test.before.each((context) => {
  context.folder = fs.mkdtempSync(join(tmpdir(), "atomic-write-"));
  context.path = join(context.folder, "state.bin");
  fs.writeFileSync(context.path, "old");
});

test.after.each(({ folder }) => {
  fs.rmSync(folder, { recursive: true, force: true });
});

/** Runs `body` in a process of its own, with `writeFileAtomic` and `path` in scope. */
function runInChild(path: string, body: string, shellLimit = "true") {
  const script = `import { writeFileAtomic } from ${JSON.stringify(MODULE)};
    const path = ${JSON.stringify(path)}; ${body}`;
  const command = `${shellLimit}; exec "$0" --input-type=module -e "$1"`;
  return spawnSync("sh", ["-c", command, process.execPath, script], {
    encoding: "utf8",
  });
}

function refuses(run: () => void, path: string, code: string): void {
  assert.throws(run, (error: unknown) => {
    assert.instance(error, FileError);
    assert.ok((error as Error).message.includes(JSON.stringify(path)), (error as Error).message);
    assert.ok((error as Error).message.includes(code), (error as Error).message);
    return true;
  });
}

test("writes all chunks, empty ones too, and leaves nothing else", ({ folder, path }) => {
  const source = new Uint8Array([9, 1, 2, 3, 9]);
  writeFileAtomic(path, [source.subarray(1, 3), new Uint8Array(0), source.subarray(3, 4)]);
  assert.equal([...fs.readFileSync(path)], [1, 2, 3]);
  writeFileAtomic(path, []);
  assert.is(fs.statSync(path).size, 0);
  writeFileAtomic(join(folder, "new.bin"), [source]);
  assert.equal(fs.readdirSync(folder).sort(), ["new.bin", "state.bin"]);
});

test("keeps the bytes of readers that have the old file open", ({ path }) => {
  const handle = fs.openSync(path, "r");
  writeFileAtomic(path, [Buffer.from("new and longer")]);
  assert.is(fs.readFileSync(handle, "utf8"), "old");
  fs.closeSync(handle);
  assert.is(fs.readFileSync(path, "utf8"), "new and longer");
});

test("takes bare file names", ({ folder }) => {
  const before = process.cwd();
  process.chdir(folder);
  try {
    writeFileAtomic("bare.bin", [Buffer.from("x")]);
  } finally {
    process.chdir(before);
  }
  assert.is(fs.readFileSync(join(folder, "bare.bin"), "utf8"), "x");
});

test("refuses a missing folder", ({ folder }) => {
  const path = join(folder, "missing", "state.bin");
  refuses(() => writeFileAtomic(path, []), path, "ENOENT");
});

test("refuses a file in place of the folder", ({ path }) => {
  const below = join(path, "state.bin");
  refuses(() => writeFileAtomic(below, []), below, "ENOTDIR");
});

test("refuses a folder in place of the file, and removes its temporary file", ({ folder }) => {
  const path = join(folder, "taken");
  fs.mkdirSync(path);
  refuses(() => writeFileAtomic(path, [Buffer.from("x")]), path, "EISDIR");
  assert.equal(fs.readdirSync(folder).sort(), ["state.bin", "taken"]);
});

test("refuses names with a NUL and names that are too long", ({ folder }) => {
  for (const [name, code] of [
    ["a\0b", "ERR_INVALID_ARG_VALUE"],
    ["n".repeat(300), "ENAMETOOLONG"],
  ] as const) {
    const path = join(folder, name);
    refuses(() => writeFileAtomic(path, []), path, code);
  }
  assert.equal(fs.readdirSync(folder), ["state.bin"]);
});

// The superuser may write to any folder.
(process.getuid?.() === 0 ? test.skip : test)("refuses a read-only folder", ({ folder, path }) => {
  fs.chmodSync(folder, 0o555);
  refuses(() => writeFileAtomic(path, [Buffer.from("x")]), path, "EACCES");
  fs.chmodSync(folder, 0o755);
  assert.is(fs.readFileSync(path, "utf8"), "old");
});

test("keeps the old file when the new one outgrows the size limit", ({ folder, path }) => {
  const body = `try { writeFileAtomic(path, [Buffer.alloc(100_000)]); } catch (error) {
    console.log(error.name, error.message); }`;
  const { stdout } = runInChild(path, body, "ulimit -f 8");
  assert.match(stdout, /^FileError writeFileAtomic: .*EFBIG/);
  assert.ok(stdout.includes(JSON.stringify(path)), stdout);
  assert.equal(fs.readdirSync(folder), ["state.bin"]);
  assert.is(fs.readFileSync(path, "utf8"), "old");
});

test("keeps the old file and passes the error on when the source of the chunks fails", ({ folder, path }) => {
  const failure = new RangeError("source failed");
  function* chunks() {
    yield Buffer.from("half");
    throw failure;
  }
  assert.throws(
    () => writeFileAtomic(path, chunks()),
    (error: unknown) => error === failure,
  );
  assert.equal(fs.readdirSync(folder), ["state.bin"]);
  assert.is(fs.readFileSync(path, "utf8"), "old");
});

test("keeps the old file through kill -9, and the sweep removes what was left", ({ folder, path }) => {
  const body = `writeFileAtomic(path, (function* () {
    yield Buffer.from("half"); process.kill(process.pid, "SIGKILL"); })());`;
  assert.is(runInChild(path, body).signal, "SIGKILL");
  assert.is(fs.readFileSync(path, "utf8"), "old");
  const left = fs.readdirSync(folder).filter((name) => name !== "state.bin");
  assert.is(left.length, 1);
  assert.match(left[0]!, /^\.state\.bin\.\d+\.[0-9a-f-]{36}\.tmp$/);
  assert.equal(sweepTemporaryFiles(folder), left);
  assert.equal(fs.readdirSync(folder), ["state.bin"]);
});

test("the sweep keeps files of live processes and whatever has another name", ({ folder }) => {
  const dead = spawnSync(process.execPath, ["-e", ""]).pid;
  const kept = [
    `.live.bin.${process.ppid}.${UUID}.tmp`,
    `.own.bin.${process.pid}.${UUID}.tmp`,
    `.zero.bin.0.${UUID}.tmp`,
    `.wide.bin.99999999999.${UUID}.tmp`,
    `.short.bin.${dead}.0123.tmp`,
    `visible.bin.${dead}.${UUID}.tmp`,
    "state.bin",
  ];
  for (const name of kept) fs.writeFileSync(join(folder, name), "");
  fs.mkdirSync(join(folder, `.folder.bin.${dead}.${UUID}.tmp`));
  const stale = `.two\nlines.bin.${dead}.${UUID}.tmp`;
  fs.writeFileSync(join(folder, stale), "");
  assert.equal(sweepTemporaryFiles(folder), [stale]);
  assert.equal(fs.readdirSync(folder).sort(), [...kept, `.folder.bin.${dead}.${UUID}.tmp`].sort());
});

test("the sweep removes files of an earlier process that had the same id", ({ folder }) => {
  const name = `.own.bin.${process.pid}.${UUID}.tmp`;
  fs.writeFileSync(join(folder, name), "");
  fs.utimesSync(join(folder, name), 1, 1);
  assert.equal(sweepTemporaryFiles(folder), [name]);
});

test("the sweep finds nothing in a missing folder, and refuses a file", ({ folder, path }) => {
  assert.equal(sweepTemporaryFiles(join(folder, "missing")), []);
  refuses(() => sweepTemporaryFiles(path), path, "ENOTDIR");
});

test.run();
