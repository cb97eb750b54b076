/** Values that no function expects. Each is made anew for every call, since some change what they are given to. */
import { inspect } from "node:util";
import * as qm from "../../lib/index.js";

export interface HostileValue {
  label: string;
  /** @param args the other arguments of the call, for values that reach for them */
  make(args: readonly unknown[]): unknown;
}

const value = (label: string, make: (args: readonly unknown[]) => unknown): HostileValue => ({ label, make });
const plain = (...values: unknown[]): HostileValue[] =>
  values.map((v) => value(inspect(v, { breakLength: 1000 }), () => v));

/** Disposes the first tensor among the arguments as soon as one of its properties is read. */
function disposer(args: readonly unknown[]): unknown {
  return new Proxy(
    {},
    {
      get: () => {
        for (const arg of args) if (arg instanceof qm.Tensor) arg.dispose();
        return undefined;
      },
    },
  );
}
function detached(): Float32Array {
  const data = new Float32Array(4);
  structuredClone(data.buffer, { transfer: [data.buffer] });
  return data;
}
function shrunk(): Float32Array {
  type Resizable = ArrayBuffer & { resize(bytes: number): void };
  const buffer = new (ArrayBuffer as unknown as new (bytes: number, options: object) => Resizable)(64, {
    maxByteLength: 64,
  });
  const data = new Float32Array(buffer);
  buffer.resize(8);
  return data;
}
function cyclic(): unknown[] {
  const list: unknown[] = [];
  list.push(list);
  return list;
}
function disposed(): qm.Tensor {
  const t = qm.ones([2]);
  t.dispose();
  return t;
}

/** Without tensors: what the addon is given too. */
export const plainValues: readonly HostileValue[] = [
  ...plain(undefined, null, true, false, 0, -0, -1, 1, 2, 6, 1.5, Number.NaN, Infinity, -Infinity),
  ...plain(2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 1e308, 5e-324),
  ...plain("", "x", "1", "float32", "cuda", "\0", "__proto__"),
  ...plain(1n, 2n ** 64n),
  value("a long string", () => "x".repeat(10_000)),
  value("a symbol", () => Symbol("s")),
  value("a function", () => () => 1),
  value("an async function", () => async () => 1),
  ...plain(
    [],
    [0],
    [1],
    [-1],
    [1.5],
    [Number.NaN],
    ["a"],
    [null],
    [[]],
    [[1], [2, 3]],
    [1n],
    [true],
    [-1, -1],
    [0, 1, 2, 3, 4, 5, 6],
  ),
  value("a product that wraps", () => [2 ** 31, 2 ** 31, 2 ** 31]),
  value("2^53 in a shape", () => [2 ** 53]),
  value("2^45 elements", () => [2 ** 15, 2 ** 15, 2 ** 15]),
  value("1,000 dimensions", () => new Array<number>(1000).fill(1)),
  value("holes", () => new Array<number>(3)),
  value("an array that holds itself", cyclic),
  value("{}", () => ({})),
  value("{shape: [2]}", () => ({ shape: [2] })),
  value("a foreign tensor", () => ({
    shape: [2],
    dtype: "float32",
    device: "cpu",
    handle: () => 0,
    requiresGrad: false,
    rank: 1,
    size: 2,
  })),
  value("an object without prototype", () => Object.create(null)),
  value("an object with a tensor's prototype", () => Object.create(qm.Tensor.prototype)),
  value("a Proxy", () => new Proxy({}, {})),
  value("a getter that disposes", disposer),
  value("options of one unknown key", () => ({ unknown: 1 })),
  value("options with wrong types", () => ({
    dtype: 3,
    device: 4,
    axis: "x",
    kernel: "x",
    size: {},
    stride: null,
    eps: "1",
    groups: 1.5,
  })),
  value("options with huge sizes", () => ({ kernel: 2 ** 31 - 1, size: 2 ** 31 - 1 })),
  value("huge sizes", () => [2 ** 31 - 1, 2 ** 31 - 1]),
  value("a Date", () => new Date(0)),
  value("a RegExp", () => /x/),
  value("a Map", () => new Map([["x", 1]])),
  value("a Set", () => new Set([1])),
  value("an Error", () => new Error("e")),
  value("a resolved promise", () => Promise.resolve(1)),
  value("a Buffer", () => Buffer.from("abc")),
  value("an Int8Array", () => new Int8Array(2)),
  value("a DataView", () => new DataView(new ArrayBuffer(8))),
  value("an ArrayBuffer", () => new ArrayBuffer(8)),
  value("a detached Float32Array", detached),
  value("a Float32Array of a buffer that shrank", shrunk),
  value("a shared Float32Array", () => new Float32Array(new SharedArrayBuffer(16))),
  value("a misaligned Uint8Array", () => new Uint8Array(new ArrayBuffer(9), 1)),
  value("a Float64Array of NaN", () => new Float64Array(3).fill(Number.NaN)),
];

const tensors: readonly HostileValue[] = [
  value("a Proxy of a tensor", () => new Proxy(qm.ones([2, 3]), {})),
  value("a disposed tensor", disposed),
  value("a scalar tensor", () => qm.ones([])),
  value("an empty tensor", () => qm.ones([0])),
  value("another shape", () => qm.ones([7])),
  value("rank 6", () => qm.ones([1, 2, 1, 2, 1, 2])),
  value("a float64 tensor", () => qm.ones([2, 3], { dtype: "float64" })),
  value("an int64 tensor of large numbers", () => qm.full([2, 3], 2 ** 50, { dtype: "int64" })),
  value("an int32 tensor of -1", () => qm.full([2], -1, { dtype: "int32" })),
  value("a bool tensor", () => qm.ones([2, 3], { dtype: "bool" })),
  value("a bfloat16 tensor", () => qm.ones([2, 3], { dtype: "bfloat16" })),
  value("a tensor of NaN", () => qm.full([2, 3], Number.NaN)),
  value("a list of tensors", () => [qm.ones([2]), qm.ones([3])]),
  value("a list with a disposed tensor", () => [disposed()]),
  value("a module", () => new qm.nn.GELU()),
];

export const hostileValues: readonly HostileValue[] = [...plainValues, ...tensors];
