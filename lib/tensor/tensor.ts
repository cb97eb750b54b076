import { inspect } from "node:util";
import { addon, translate } from "../native/addon.js";
import { cudaInfo } from "../native/cuda.js";
import { ArgumentError, DeviceError, DisposedError, show } from "../util/errors.js";
import { DTYPES, type DType, newArray, type TensorData } from "./dtype.js";
import { format } from "./print.js";
import { currentScope, type Scope } from "./scope.js";
import { type Shape, size } from "./shape.js";

export type Device = "cpu" | "cuda";
const DEVICES: Record<Device, number> = { cpu: 0, cuda: 1 };

/** A device that this machine has. @throws {DeviceError} with the reason, if there is no CUDA device to use */
export function requireDevice(op: string, device: unknown): Device {
  if (device === "cpu") return device;
  if (device !== "cuda") throw new DeviceError(op, "unknown device", "cpu or cuda", show(device));
  const info = cudaInfo();
  if (!info.available)
    throw new DeviceError(op, `there is no CUDA device: ${info.reason}`, "cpu", show(device));
  return device;
}

/** What a tensor is, before it exists: what `infer` returns. */
export interface TensorSpec {
  shape: Shape;
  dtype: DType;
  device: Device;
}

/** The part of a recorded op that a tensor keeps alive; the tape (lib/autograd) gives it meaning. */
export interface GraphNode {
  retain(): void;
  release(): void;
}

export type NestedArray = number | boolean | NestedArray[];

/** What the finalizer needs, apart from the tensor itself. */
interface Hold {
  handle: number;
  node: GraphNode | null;
}

function free(hold: Hold): void {
  if (hold.handle < 0) return;
  addon.release(hold.handle);
  hold.handle = -1;
  hold.node?.release();
  hold.node = null;
}

const net = new FinalizationRegistry<Hold>(free);

/**
 * A dense, row-major array on a device. Its storage is native and reference-counted: reshaped, detached and
 * saved-for-backward tensors share it. Freed by `dispose()`, by the scope it was made in, or at last by the garbage
 * collector. Ops are methods as well as functions (see lib/ops/methods.ts).
 */
export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly device: Device;
  /** Whether `backward()` computes a gradient for this tensor. */
  requiresGrad = false;
  /** The gradient that `backward()` accumulated, if this is a leaf that requires one. */
  grad: Tensor | null = null;

  readonly #hold: Hold;
  #scope: Scope | undefined;
  #netted = false;

  /** Takes over `handle`. Programs use `tensor()`, `zeros()` and their like. */
  constructor(handle: number, spec: TensorSpec, owned = true) {
    this.shape = spec.shape;
    this.dtype = spec.dtype;
    this.device = spec.device;
    this.#hold = { handle, node: null };
    if (owned) this.moveTo(currentScope());
  }

  /** Whether a value is a tensor made by this class: a proxy, or an object with its prototype, is not. */
  static is(value: unknown): value is Tensor {
    return typeof value === "object" && value !== null && #hold in value;
  }

  get rank(): number {
    return this.shape.length;
  }
  /** Number of elements. */
  get size(): number {
    return size(this.shape);
  }
  get disposed(): boolean {
    return this.#hold.handle < 0;
  }

  /** The recorded op that made this tensor; null for leaves. */
  get node(): GraphNode | null {
    return this.#hold.node;
  }
  set node(node: GraphNode | null) {
    node?.retain();
    this.#hold.node?.release();
    this.#hold.node = node;
  }

  /** The native handle, for a call of `op`. */
  handle(op: string): number {
    if (this.#hold.handle < 0)
      throw new DisposedError(
        op,
        "the tensor was disposed, or its scope has ended",
        "a live tensor",
        describe(this),
      );
    return this.#hold.handle;
  }

  ownedBy(scope: Scope): boolean {
    return this.#scope === scope && !this.disposed;
  }

  /** Hands the tensor to a scope, or, with undefined, to its holder and the garbage collector. */
  moveTo(scope: Scope | undefined): void {
    this.#scope = scope;
    if (scope) scope.add(this);
    else if (!this.#netted) {
      net.register(this, this.#hold, this.#hold);
      this.#netted = true;
    }
  }

  /** Takes the tensor out of its scope: it lives until `dispose()`. Returns itself. */
  keep(): this {
    this.moveTo(undefined);
    return this;
  }

  /** Frees the tensor and its gradient. Others that share its storage stay valid. A second call does nothing. */
  dispose(): void {
    if (this.disposed) return;
    if (this.#netted) net.unregister(this.#hold);
    free(this.#hold);
    this.grad?.dispose();
    this.grad = null;
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A second tensor on the same storage: no gradient flows through it. */
  detach(): Tensor {
    return alias(this, "detach");
  }

  /** A copy of the elements. int64 as BigInt64Array, bool as Uint8Array of 0 and 1, bfloat16 as raw Uint16Array. */
  toTypedArray(): TensorData {
    return this.#read("toTypedArray");
  }

  /** Waits for the device. @throws what went wrong in the work that the elements came from */
  #read(op: string): TensorData {
    const data = newArray(this.dtype, this.size);
    try {
      addon.read(this.handle(op), data);
    } catch (error) {
      throw translate(op, error);
    }
    return data;
  }

  /** The elements as nested arrays of numbers (bool: of booleans); a scalar tensor gives the bare value. */
  toArray(): NestedArray {
    const flat = this.#values("toArray");
    let at = 0;
    const nest = (axis: number): NestedArray =>
      axis === this.rank ? flat[at++] : Array.from({ length: this.shape[axis] }, () => nest(axis + 1));
    return nest(0);
  }

  /** The only element, as a number. @throws {ArgumentError} unless there is exactly one. */
  item(): number {
    if (this.size !== 1)
      throw new ArgumentError("item", "needs one element", "1 element", `shape ${show(this.shape)}`);
    return Number(this.#values("item")[0]);
  }

  #values(op: string): (number | boolean)[] {
    const data = this.#read(op);
    if (this.dtype === "bool") return Array.from(data as Uint8Array, (v) => v !== 0);
    if (this.dtype === "bfloat16") return Array.from(data as Uint16Array, bfloat16ToNumber);
    return Array.from(data as Float64Array, Number);
  }

  toString(): string {
    return this.disposed
      ? `Tensor(disposed, ${describe(this)})`
      : `Tensor(${describe(this)}\n${format(this)})`;
  }
  [inspect.custom](): string {
    return this.toString();
  }
}

function bfloat16ToNumber(bits: number): number {
  return new Float32Array(new Uint32Array([bits << 16]).buffer)[0];
}

export function describe(t: TensorSpec): string {
  return `${t.dtype} [${t.shape.join(", ")}]`;
}

export function isTensor(value: unknown): value is Tensor {
  return Tensor.is(value);
}

export function requireTensor(op: string, what: string, value: unknown): Tensor {
  if (!isTensor(value)) throw new ArgumentError(op, `${what} is not a tensor`, "a Tensor", show(value));
  value.handle(op);
  return value;
}

/** A tensor on the same storage, with a shape of as many elements; not part of the graph. */
export function alias(t: Tensor, op: string, shape: Shape = t.shape): Tensor {
  const handle = addon.view(t.handle(op), Float64Array.from(shape));
  return new Tensor(handle, { shape, dtype: t.dtype, device: t.device });
}

/** The same, owned by no scope: what the tape holds for backward. */
export function retain(t: Tensor, op: string): Tensor {
  return new Tensor(addon.retain(t.handle(op)), t, false);
}

/** Whether another live tensor shares this one's storage. */
export function isShared(t: Tensor): boolean {
  return addon.refs(t.handle("isShared")) > 1;
}

/** A tensor with a copy of `data`. */
export function fromTypedArray(op: string, data: TensorData, spec: TensorSpec): Tensor {
  try {
    const handle = addon.create(
      DTYPES[spec.dtype].code,
      DEVICES[spec.device],
      Float64Array.from(spec.shape),
      data,
    );
    return new Tensor(handle, spec);
  } catch (error) {
    throw translate(op, error);
  }
}

/** A copy of a tensor on another device; not part of the graph. */
export function transfer(op: string, t: Tensor, device: Device): Tensor {
  try {
    return new Tensor(addon.transfer(t.handle(op), DEVICES[device]), {
      shape: t.shape,
      dtype: t.dtype,
      device,
    });
  } catch (error) {
    throw translate(op, error);
  }
}

/** Overwrites the elements of a tensor in place. */
export function writeTypedArray(op: string, t: Tensor, data: TensorData): void {
  try {
    addon.write(t.handle(op), data);
  } catch (error) {
    throw translate(op, error);
  }
}

export function deviceCode(device: Device): number {
  return DEVICES[device];
}
