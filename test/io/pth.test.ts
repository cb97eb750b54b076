/**
 * PyTorch checkpoints. The fixtures were saved by torch 2.13: kinds.pth holds every dtype and all sorts of views, kinds.safetensors
 * the same made contiguous (float16 as float32, int16 and int8 as int32); training.pth is what a training script saves, with an
 * optimizer, a yacs-like configuration and an argparse Namespace; legacy, script and module are of other kinds.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FileError, loadSafetensors, loadTorch, type PickleObject, type Tensor } from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { rejects } from "../helpers/rejects.js";
import { temporaryFolder } from "../helpers/temporary.js";
import {
  bytesOf,
  type Code,
  checkpoint,
  dict,
  global,
  integer,
  pickle,
  reduce,
  tensorCode,
  text,
  tuple,
  u32,
  zip,
} from "../helpers/torch_file.js";

const fixtures = join(packageRoot(), "test/fixtures/torch");
const work = temporaryFolder();

function bits(t: Tensor): string {
  const { buffer, byteOffset, byteLength } = t.toTypedArray();
  return Buffer.from(buffer, byteOffset, byteLength).toString("hex");
}

const files = suite("torch files");

files("every dtype and view has torch's bits", async () => {
  const { tensors, key } = await loadTorch(join(fixtures, "kinds.pth"));
  const expected = loadSafetensors(join(fixtures, "kinds.safetensors")).tensors;
  assert.is(key, "state_dict");
  assert.equal([...tensors.keys()].sort(), [...expected.keys()].sort());
  for (const [name, want] of expected) {
    const got = tensors.get(name) as Tensor;
    assert.equal([got.dtype, got.shape, bits(got)], [want.dtype, want.shape, bits(want)], name);
  }
});

files("a training checkpoint: weights, their average, and the rest as data", async () => {
  const path = join(fixtures, "training.pth");
  const trained = await loadTorch(path);
  assert.equal([...trained.tensors.keys()], ["weight", "bias"], "without the wrapper's prefix");
  assert.is(trained.key, "model");
  const ema = await loadTorch(path, { weights: "ema" });
  assert.is(ema.key, "model_ema");
  const [a, b] = [trained, ema].map(({ tensors }) => (tensors.get("weight") as Tensor).toTypedArray());
  assert.is(b.length, 6);
  for (let k = 0; k < 6; k++) assert.ok(Math.abs(Number(a[k]) - Number(b[k])) < 1e-3, "the half of it");
  const contents = trained.contents as Map<string, unknown>;
  assert.is(contents.get("max_accuray_ema"), 74.4);
  const config = contents.get("config") as PickleObject;
  assert.is(config.type, "yacs.config.CfgNode");
  assert.is((config.entries.get("MODEL") as PickleObject).entries.get("TYPE"), "vssm");
  assert.is(((contents.get("args") as PickleObject).state as Map<string, unknown>).get("lr"), 1e-3);
});

for (const [file, message] of [
  ["legacy", /legacy format, which is not read; expected a file of torch 1\.6 or later/],
  ["script", /is a TorchScript program, which is not read/],
  ["module", /holds a whole torch\.nn\.modules\.linear\.Linear; expected its state_dict\(\)/],
] as const)
  files(`${file}.pth is refused by its kind`, async () => {
    await rejects(loadTorch(join(fixtures, `${file}.pth`)), FileError, message);
  });

files("a file cut anywhere is refused", async () => {
  const whole = readFileSync(join(fixtures, "training.pth"));
  for (let length = 0; length < whole.length; length += 97) {
    const path = join(work, "cut.pth");
    writeFileSync(path, whole.subarray(0, length));
    await rejects(loadTorch(path), FileError, /cut\.pth/);
  }
});

const ONE = new Uint8Array(4);
const one = (code: Code) => checkpoint(pickle(dict(["w", code])), [ONE]);
const code = (...codes: Code[]) => checkpoint(pickle(...codes));
const raw = (...codes: Code[]) => checkpoint(bytesOf(...codes));
const good = pickle(dict(["w", tensorCode([1])]));

/** Encryption puts 12 bytes before the data. */
const encrypted = Buffer.concat([Buffer.alloc(12), good]);
/** An entry with its header that lies within the data of another one. */
const inner = zip([{ name: "a/byteorder", data: ONE }]);

const HOSTILE: [string, () => Uint8Array, RegExp][] = [
  [
    "REDUCE of os.system",
    () => code(reduce("os.system", text("true"))),
    /names "os\.system", which runs code/,
  ],
  ["posix.system by its other name", () => code(reduce("posix.system", text("true"))), /which runs code/],
  [
    "STACK_GLOBAL builtins.eval",
    () => code(text("builtins"), text("eval"), "\x93"),
    /"builtins\.eval", which/,
  ],
  ["__builtin__.getattr", () => code(global("__builtin__.getattr")), /which runs code/],
  ["a module and a dotted name", () => code(text("builtins"), text("x.eval"), "\x93"), /which runs code/],
  ["subprocess.Popen", () => code(global("subprocess.Popen"), tuple(text("x")), "\x81"), /which runs code/],
  ["INST", () => code("(ios\nsystem\n"), /opcode 0x69 is not allowed/],
  ["OBJ", () => code("(", global("a.b"), "o"), /opcode 0x6f is not allowed/],
  ["EXT1", () => code("\x82\x01"), /opcode 0x82 is not allowed/],
  ["PERSID", () => code("Pstorage\n"), /opcode 0x50 is not allowed/],
  ["a call of what is no name", () => code(text("x"), tuple(), "R"), /what is called is no class/],
  ["a call of what a call made", () => code(reduce("a.b"), tuple(), "R"), /what is called is no class/],
  ["arguments that are no tuple", () => code(global("a.b"), text("x"), "R"), /arguments are no tuple/],
  ["a persistent id of a string", () => code(text("storage"), "Q"), /no storage/],
  ["a persistent id of another kind", () => code(tuple(text("module")), "Q"), /no storage/],
  ["a persistent id of an unknown class", () => one(tensorCode([1], { type: "os.path" })), /which runs code/],
  ["a storage of an unknown type", () => one(tensorCode([1], { type: "x.Storage" })), /are not read/],
  [
    "a storage that is not there",
    () => one(tensorCode([1], { key: "7" })),
    /storage "7" is not in the archive/,
  ],
  ["a key with dots", () => one(tensorCode([1], { key: "../data.pkl" })), /is not in the archive/],
  ["a storage shorter than claimed", () => one(tensorCode([2])), /has 4 bytes instead of the 8/],
  ["a negative count", () => one(tensorCode([1], { count: -1 })), /no storage/],
  [
    "one storage as two types",
    () =>
      checkpoint(pickle(dict(["a", tensorCode([1])], ["b", tensorCode([1], { type: "torch.IntStorage" })])), [
        ONE,
      ]),
    /storage "0" has two types/,
  ],
  ["a negative size", () => one(tensorCode([-1], { count: 1 })), /no whole numbers of at least 0/],
  ["a negative stride", () => one(tensorCode([1], { strides: [-1] })), /no whole numbers of at least 0/],
  ["a negative offset", () => one(tensorCode([1], { offset: -1 })), /no whole numbers of at least 0/],
  ["an offset past the end", () => one(tensorCode([1], { offset: 1 })), /reaches outside of its storage/],
  ["strides past the end", () => one(tensorCode([2, 2], { count: 1 })), /reaches outside of its storage/],
  ["fewer strides than sizes", () => one(tensorCode([1, 1], { count: 1, strides: [1] })), /no whole numbers/],
  [
    "an expanded tensor of 10^15 elements",
    () => one(tensorCode([1e5, 1e5, 1e5], { count: 1, strides: [0, 0, 0] })),
    /reaches outside/,
  ],
  [
    "a product that wraps",
    () => one(tensorCode(Array(12).fill(65536), { count: 1, strides: Array(12).fill(0) })),
    /reaches outside/,
  ],
  ["a stack that is empty", () => code("0"), /the stack is empty/],
  ["POP across a mark", () => code("N(0"), /the stack is empty/],
  ["a missing mark", () => code("t"), /a mark is missing/],
  ["nothing remembered", () => code("h\x05"), /nothing is remembered as 5/],
  ["values left over", () => code("NN"), /values left over/],
  ["bytes after the end", () => raw("\x80\x02N.N"), /goes on after its end/],
  ["no end", () => raw("\x80\x02N"), /cut short/],
  ["no protocol", () => raw("N."), /does not begin with its protocol/],
  ["a protocol that is not there yet", () => raw("\x80\x09N."), /protocol 9 is not 2 to 5/],
  ["a second protocol", () => raw("\x80\x02\x80\x02N."), /opcode 0x80 is not allowed/],
  ["a number of 2 GB", () => code("\x8b", u32(0x7fffffff)), /a number has more than 1024 bytes/],
  ["a string past the end", () => code("X", u32(-1)), /cut short/],
  ["a string of 2^60 bytes", () => code("\x8d", u32(0), u32(1 << 28)), /cut short/],
  ["a string that is not UTF-8", () => code("X", u32(1), "\xff"), /not UTF-8/],
  ["a list as a key", () => code("}]Ns"), /a key is a list/],
  ["a key without a value", () => code("}(Nu"), /a key without a value/],
  ["items for a tuple", () => code(")Na"), /appended to what is no list/],
  ["attributes of a number", () => code("K\x01}b"), /what is no object/],
  ["a name of 2 kB", () => code(`c${"a".repeat(2000)}\nb\n`), /name of a global is too long/],
  [
    "two million objects",
    () => raw("\x80\x02", Buffer.alloc(2_000_000, "]").toString("latin1")),
    /holds more than/,
  ],
  [
    "two million marks",
    () => raw("\x80\x02", Buffer.alloc(2_000_000, "(").toString("latin1")),
    /stacks more than/,
  ],
  ["a pickle of 33 MB", () => raw(Buffer.alloc(33 * 2 ** 20, "N").toString("latin1")), /is larger than/],

  ["no archive", () => Buffer.from("hello"), /is no torch checkpoint/],
  ["an empty file", () => Buffer.alloc(0), /is no torch checkpoint/],
  ["a bare pickle", () => good, /bare pickle/],
  ["an archive without data.pkl", () => zip([{ name: "a/x", data: ONE }]), /one folder with a data\.pkl/],
  ["two folders", () => zip(["a", "b"].map((f) => ({ name: `${f}/data.pkl`, data: good }))), /one folder/],
  ["a compressed entry", () => zip([{ name: "a/data.pkl", data: good, method: 8 }]), /is compressed/],
  [
    "an encrypted entry",
    () => zip([{ name: "a/data.pkl", data: encrypted, uncompressed: good.length, flags: 1 }]),
    /entry "a\/data\.pkl" is encrypted/,
  ],
  ["a false checksum", () => zip([{ name: "a/data.pkl", data: good, crc: 5 }]), /does not have its checksum/],
  [
    "the same name twice",
    () => zip([1, 2].map(() => ({ name: "a/data.pkl", data: good }))),
    /"a\/data\.pkl" is there twice/,
  ],
  [
    "headers of other names",
    () => zip([{ name: "a/data.pkl", data: good, localName: "a/safe.pkl" }]),
    /is described differently/,
  ],
  [
    "overlapping entries",
    () =>
      zip([
        { name: "a/data.pkl", data: Buffer.concat([good, inner]) },
        { name: "a/byteorder", data: ONE, offset: 30 + "a/data.pkl".length + good.length },
      ]),
    /entries "a\/data\.pkl" and "a\/byteorder" overlap/,
  ],
  [
    "two names of one place",
    () =>
      zip([
        { name: "a/data.pkl", data: good },
        { name: "a/byteorder", data: ONE, offset: 0 },
      ]),
    /"a\/byteorder" is described differently/,
  ],
  [
    "a size past the end",
    () => zip([{ name: "a/data.pkl", data: good, size: 1e6 }]),
    /no whole zip archive \(file data overflows file bounds/,
  ],
  [
    "a size that zip64 does not have",
    () => zip([{ name: "a/data.pkl", data: good, size: 2 ** 32 - 1 }]),
    /no whole zip archive \(file data overflows file bounds: \d+ \+ 4294967295/,
  ],
  ["more entries than there are", () => zip([{ name: "a/data.pkl", data: good }], 9), /no whole zip archive/],
  [
    "a path out of the folder",
    () => zip([{ name: "../data.pkl", data: good }]),
    /no whole zip archive.*invalid relative path/,
  ],
  ["an absolute path", () => zip([{ name: "/data.pkl", data: good }]), /no whole zip archive.*absolute path/],
  [
    "big-endian elements",
    () => checkpoint(good, [ONE], [{ name: "a/byteorder", data: Buffer.from("big") }]),
    /another byte order; expected little, got big/,
  ],

  ["no dict", () => code("N"), /holds no state dict/],
  ["a dict of no weights", () => code(dict(["epoch", integer(3)])), /has no such weights/],
  ["a record among the weights", () => one(reduce("a.b")), /has no such weights/],
  [
    "a number among the weights",
    () => checkpoint(pickle(dict(["w", tensorCode([1])], ["epoch", integer(3)])), [ONE]),
    /"epoch" in the state dict is no tensor/,
  ],
];

/** A tensor of one dimension in a storage of these bytes, as torch pickles dtypes that have no storage class. */
function untyped(dtype: string, length: number, bytes: Uint8Array): Buffer {
  const type = global("torch.storage.UntypedStorage");
  const storage = [tuple(text("storage"), type, text("0"), text("cpu"), integer(bytes.length)), "Q"];
  const sizes = [tuple(integer(length)), tuple(integer(1))];
  const rest = ["\x89", reduce("collections.OrderedDict"), global(`torch.${dtype}`)];
  const made = reduce("torch._utils._rebuild_tensor_v3", storage, integer(0), sizes, rest);
  return checkpoint(pickle(dict(["w", made])), [bytes]);
}

files("an untyped storage may end with a part of an element, which no tensor reaches", async () => {
  const path = join(work, "untyped.pth");
  for (const [dtype, size] of [
    ["float64", 8],
    ["float32", 4],
    ["float16", 2],
    ["bfloat16", 2],
    ["int64", 8],
    ["int32", 4],
    ["int16", 2],
  ] as const)
    for (const more of new Set([1, size - 1])) {
      const bytes = new Uint8Array(2 * size + more);
      writeFileSync(path, untyped(dtype, 2, bytes));
      const { tensors } = await loadTorch(path);
      assert.equal(Array.from((tensors.get("w") as Tensor).toTypedArray(), Number), [0, 0], dtype);
      writeFileSync(path, untyped(dtype, 3, bytes));
      await rejects(loadTorch(path), FileError, /reaches outside of its storage of 2 elements/);
    }
});

const hostile = suite("hostile torch files");
for (const [what, make, message] of HOSTILE)
  hostile(`${what} is refused`, async () => {
    const path = join(work, "hostile.pth");
    writeFileSync(path, make());
    await rejects(loadTorch(path), FileError, message);
  });

hostile("nesting 100,000 deep, and doubling 40 times, are data like other data", async () => {
  const deep = Buffer.alloc(100_000, 0x85).toString("latin1"); // tuples of tuples
  const doubled = Array.from({ length: 40 }, () => "2\x86"); // (x, x), where x is the one before
  const path = join(work, "deep.pth");
  const weights = dict(["w", tensorCode([1])]);
  writeFileSync(
    path,
    checkpoint(pickle(dict(["model", weights], ["deep", ["N", deep]], ["wide", ["N", doubled]])), [ONE]),
  );
  const { tensors } = await loadTorch(path);
  assert.equal([...tensors.keys()], ["w"]);
});

hostile("a list that holds itself, and names of Object's own, are data", async () => {
  const path = join(work, "names.pth");
  const names = ["__proto__", "constructor", "toString"];
  const weights = dict(...names.map((name): [string, Code] => [name, tensorCode([1])]));
  writeFileSync(path, checkpoint(pickle(dict(["model", weights], ["self", ["]q\x00h\x00a"]])), [ONE]));
  const { tensors } = await loadTorch(path);
  assert.equal([...tensors.keys()], names);
});

files.run();
hostile.run();
