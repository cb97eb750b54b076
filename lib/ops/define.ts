/**
 * How an op is declared, once: its shape rule, how it runs, what backward keeps, and its gradient. Everything else (checks of
 * liveness and device, the tape, freeing) happens here for all ops.
 */
import { gradEnabled } from "../autograd/mode.js";
import { type Edge, Node, nodeOf } from "../autograd/node.js";
import { watcher } from "../autograd/watch.js";
import { beginCall, madeHandle, putNumber, putOutput, runCall } from "../native/launch.js";
import { DTYPES, type DType, isFloat, parameterDType, requireDType } from "../tensor/dtype.js";
import { checkShape, type Shape } from "../tensor/shape.js";
import {
  type Device,
  deviceCode,
  isTensor,
  requireDevice,
  retain,
  Tensor,
  type TensorSpec,
} from "../tensor/tensor.js";
import { requireFunction } from "../util/check.js";
import {
  ArgumentError,
  AutogradError,
  DeviceError,
  DTypeError,
  QuadMambaError,
  show,
} from "../util/errors.js";
import { countMacs } from "./profile.js";

/** An input that may be absent. */
export type Input = Tensor | null;

/** What `backward` gets besides dy: the saved tensors, at their places, and the attributes. */
export interface Saved<A> {
  /** Inputs, present where `saves.inputs` names them. */
  inputs: Tensor[];
  /** The output; only if `saves.output`. */
  output: Tensor;
  /** What `forward` returned after the output. */
  extras: Tensor[];
  /** Specs of all inputs, saved or not. */
  specs: readonly TensorSpec[];
  /** Which inputs want a gradient. */
  needs: readonly boolean[];
  /** Of the shape of the input that the op folds, or null. */
  waiting: Tensor | null;
  attrs: A;
}

export interface OpDefinition<A> {
  name: string;
  /** The output's shape and dtype from the inputs'. The only check of them, before anything is allocated. */
  infer(inputs: readonly Tensor[], attrs: A): { shape: Shape; dtype: DType };
  /** Computes the output; further tensors are kept for backward. */
  forward(inputs: readonly Tensor[], attrs: A, output: TensorSpec): Tensor | Tensor[];
  /** Multiply-accumulates of one call, if they count (see profile.ts). */
  macs?(inputs: readonly Tensor[], output: TensorSpec, attrs: A): number;
  saves?: { inputs?: readonly number[]; output?: boolean };
  /** The input to whose gradient `backward` adds what has come to it from elsewhere (`waiting`). */
  folds?: number;
  /** dL/dinput for each input, null for inputs without one; of broadcast shape where forward broadcast. */
  backward?(dy: Tensor, saved: Saved<A>): readonly (Tensor | null)[];
}

/** Runs a kernel on tensors; the outputs are new tensors of the given specs. Not recorded. */
export function launch(
  kernel: string,
  inputs: readonly Input[],
  outputs: readonly TensorSpec[],
  attrs: readonly number[] = NO_ATTRS,
): Tensor[] {
  requireCall(kernel, inputs, outputs, attrs);
  beginCall(kernel, inputs.length, outputs.length, attrs.length);
  putHandles(kernel, inputs);
  putNumber(outputs.length);
  for (let k = 0; k < outputs.length; k++) putSpec(kernel, outputs[k]);
  for (let k = 0; k < attrs.length; k++) putNumber(attrs[k]);
  runCall(kernel);
  return outputs.map((spec, k) => new Tensor(madeHandle(k), spec));
}

/** Runs a kernel that writes into live tensors. */
export function launchInto(
  kernel: string,
  inputs: readonly Input[],
  outputs: readonly Tensor[],
  attrs: readonly number[] = NO_ATTRS,
): void {
  beginCall(kernel, inputs.length, outputs.length, attrs.length);
  putHandles(kernel, inputs);
  putHandles(kernel, outputs);
  for (const value of attrs) putNumber(value);
  runCall(kernel);
}

const NO_ATTRS: readonly number[] = [];

function requireCall(kernel: unknown, inputs: unknown, outputs: unknown, attrs: unknown): void {
  if (typeof kernel !== "string" || kernel === "")
    throw new ArgumentError("launch", "kernel is not valid", "a name", show(kernel));
  requireList(kernel, inputs);
  requireList(kernel, outputs);
  for (const value of requireList(kernel, attrs))
    if (typeof value !== "number")
      throw new ArgumentError("launch", `an attribute of ${kernel} is not valid`, "a number", show(value));
}

function requireList(kernel: string, list: unknown): unknown[] {
  if (Array.isArray(list)) return list;
  throw new ArgumentError("launch", `arguments of ${kernel} are not valid`, "arrays", show(list));
}

/** The number of tensors, and their handles; -1 for an optional one that is absent. */
function putHandles(kernel: string, tensors: readonly Input[]): void {
  putNumber(tensors.length);
  for (let k = 0; k < tensors.length; k++) {
    const t = tensors[k];
    if (t !== null && !isTensor(t))
      throw new ArgumentError("launch", `an input of ${kernel} is not a tensor`, "a Tensor or null", show(t));
    putNumber(t === null ? -1 : t.handle(kernel));
  }
}

function putSpec(kernel: string, spec: TensorSpec): void {
  if (spec === null || typeof spec !== "object")
    throw new ArgumentError(
      "launch",
      `an output of ${kernel} is not valid`,
      "{shape, dtype, device}",
      show(spec),
    );
  const { dtype, device, shape } = spec;
  checkShape("launch", shape);
  putOutput(DTYPES[requireDType("launch", dtype)].code, deviceCode(requireDevice("launch", device)), shape);
}

/** The function that applies an op to its inputs; null stands for an optional input that is absent. */
export function defineOp<A = void>(op: OpDefinition<A>): (inputs: readonly Input[], attrs: A) => Tensor {
  requireDefinition(op);
  return (inputs, attrs) => {
    // Absent inputs stay null at run time; definitions that have optional inputs ask for them.
    const present = inputs as readonly Tensor[];
    const device = requireOneDevice(op.name, inputs);
    const { shape, dtype } = op.infer(present, attrs);
    const spec: TensorSpec = { shape, dtype, device };
    if (op.macs) countMacs(op.macs(present, spec, attrs));
    let result: Tensor | Tensor[];
    try {
      result = op.forward(present, attrs, spec);
    } catch (error) {
      throw named(op.name, error);
    }
    const made = Array.isArray(result) ? result : [result];
    if (op.backward && gradEnabled() && inputs.some(wantsGradient)) record(op, present, attrs, made, spec);
    for (let k = 1; k < made.length; k++) made[k].dispose();
    watcher?.forward(op.name, inputs, made[0]);
    return made[0];
  };
}

function wantsGradient(t: Input): boolean {
  return t?.requiresGrad ?? false;
}

/** Puts a call on the tape. @param made the output, and what else backward is given */
function record<A>(
  op: OpDefinition<A>,
  inputs: readonly Tensor[],
  attrs: A,
  [output, ...extras]: readonly Tensor[],
  spec: TensorSpec,
): void {
  const held: Tensor[] = [];
  const hold = (t: Tensor): Tensor => {
    const kept = retain(t, op.name);
    held.push(kept);
    return kept;
  };
  const saved: Saved<A> = {
    inputs: [],
    // not the output itself: a tensor that its own node holds would never be collected
    output: op.saves?.output ? hold(output) : (undefined as unknown as Tensor),
    extras: extras.map(hold),
    specs: inputs.map((t) => (t ? { shape: t.shape, dtype: t.dtype, device: t.device } : spec)),
    needs: inputs.map(wantsGradient),
    waiting: null,
    attrs,
  };
  for (const k of op.saves?.inputs ?? []) if (inputs[k]) saved.inputs[k] = hold(inputs[k]);
  const backward = op.backward as NonNullable<typeof op.backward>;
  output.node = new Node(
    op.name,
    inputs.map((t): Edge => (t?.requiresGrad ? (nodeOf(t) ?? t) : null)),
    saved.specs,
    held,
    (dy, waiting) => backward(dy, { ...saved, waiting }),
    op.folds,
  );
  output.requiresGrad = true;
}

function requireDefinition(op: OpDefinition<never>): void {
  if (op === null || typeof op !== "object" || typeof op.name !== "string" || op.name === "")
    throw new ArgumentError(
      "defineOp",
      "the definition is not valid",
      "an object with a name, infer and forward",
      show(op),
    );
  for (const key of ["infer", "forward"] as const)
    requireFunction("defineOp", `${key} of ${op.name}`, op[key]);
  for (const key of ["backward", "macs"] as const)
    if (op[key] !== undefined) requireFunction("defineOp", `${key} of ${op.name}`, op[key]);
}

/** Native errors name the kernel; users know the op. */
function named(op: string, error: unknown): unknown {
  if (!(error instanceof QuadMambaError) || error.op === op || !error.op.includes("_")) return error;
  error.message = error.message.replace(`${error.op}:`, `${op}:`);
  Object.defineProperty(error, "op", { value: op, enumerable: true });
  return error;
}

function requireOneDevice(op: string, inputs: readonly Input[]): Device {
  let device: Device | undefined;
  for (const t of inputs) {
    if (t === null) continue;
    if (!isTensor(t)) throw new ArgumentError(op, "an input is not a tensor", "a Tensor", show(t));
    t.handle(op);
    if (device !== undefined && t.device !== device)
      throw new DeviceError(op, "tensors are on different devices", device, t.device);
    device = t.device;
  }
  return device ?? "cpu";
}

/** Whether a device computes in a tensor's dtype: bfloat16 arithmetic exists on CUDA only. */
export function computes(t: TensorSpec): boolean {
  return isFloat(t.dtype) || (t.dtype === "bfloat16" && t.device === "cuda");
}

/** The dtype of a floating tensor. */
export function requireFloat(op: string, t: Tensor): DType {
  if (!computes(t))
    throw new DTypeError(op, "needs floating numbers", "float32 or float64 (on cuda also bfloat16)", t.dtype);
  return t.dtype;
}

/** Parameters have the dtype of the data, or float32 beside bfloat16 data. */
export function requireParameters(op: string, data: Tensor, ...params: readonly Input[]): void {
  const expected = parameterDType(data.dtype);
  for (const t of params)
    if (t && t.dtype !== expected)
      throw new DTypeError(op, `dtypes differ (cast one) beside data of ${data.dtype}`, expected, t.dtype);
}

/** The one dtype of several tensors. */
export function requireSameDType(op: string, ...tensors: readonly Input[]): DType {
  const [first, ...rest] = tensors.filter((t): t is Tensor => t !== null);
  for (const t of rest)
    if (t.dtype !== first.dtype) throw new DTypeError(op, "dtypes differ (cast one)", first.dtype, t.dtype);
  return first.dtype;
}

/** The error of a gradient that the op does not have. */
export function noGradient(op: string, input: string): never {
  throw new AutogradError(
    op,
    `has no gradient with respect to ${input}`,
    `${input} without requiresGrad (detach it)`,
  );
}
