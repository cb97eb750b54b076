import { isDifferentiable } from "../tensor/dtype.js";
import { currentScope, scope } from "../tensor/scope.js";
import { sameShape } from "../tensor/shape.js";
import { alias, describe, isShared, isTensor, requireTensor, Tensor } from "../tensor/tensor.js";
import { requireOptions } from "../util/check.js";
import { ArgumentError, AutogradError, ShapeError, show } from "../util/errors.js";
import { noGrad } from "./mode.js";
import { type Edge, Node, nodeOf } from "./node.js";
import { watcher } from "./watch.js";

/** The arithmetic that the walk needs. lib/ops hands it in: this folder names no op. */
export interface Arithmetic {
  add(a: Tensor, b: Tensor): Tensor;
  sumTo(x: Tensor, shape: readonly number[]): Tensor;
  onesLike(x: Tensor): Tensor;
  copy(x: Tensor): Tensor;
}
let arithmetic: Arithmetic;
export function provideArithmetic(functions: Arithmetic): void {
  arithmetic = functions;
}

export interface BackwardOptions {
  /** Keeps what the ops saved, for a second backward through the same graph. */
  retainGraph?: boolean;
}

declare module "../tensor/tensor.js" {
  interface Tensor {
    /**
     * Adds the gradient of this tensor to `grad` of every leaf it depends on, and frees what the ops saved as it goes.
     * @param gradient dL/dthis, of this shape; may be left out for a tensor of one element, where it is 1
     */
    backward(gradient?: Tensor, options?: BackwardOptions): void;
  }
}

Tensor.prototype.backward = function (gradient, options) {
  requireOptions("backward", options, ["retainGraph"]);
  walk("backward", this, gradient, options?.retainGraph ?? false, null);
};

/**
 * Gradients of `output` with respect to `inputs`, without touching anybody's `grad`.
 * @param inputs tensors of the graph, leaves or not
 * @param options `gradient`: dL/doutput, needed unless output has one element
 * @returns one gradient per input, of its shape; null where output does not depend on it
 */
export function grad(
  output: Tensor,
  inputs: readonly Tensor[],
  options: BackwardOptions & { gradient?: Tensor } = {},
): (Tensor | null)[] {
  requireTensor("grad", "output", output);
  requireOptions("grad", options, ["retainGraph", "gradient"]);
  if (!Array.isArray(inputs))
    throw new ArgumentError("grad", "inputs are not valid", "an array of tensors", show(inputs));
  const wanted = new Map<Tensor | Node, Tensor | null>();
  for (const input of inputs) {
    requireTensor("grad", "input", input);
    if (!input.requiresGrad)
      throw new AutogradError("grad", "an input does not require a gradient", "requiresGrad = true");
    wanted.set(nodeOf(input) ?? input, null);
  }
  walk("grad", output, options.gradient, options.retainGraph ?? false, wanted);
  return inputs.map((input) => {
    const gradient = wanted.get(nodeOf(input) ?? input) as Tensor | null;
    gradient?.moveTo(currentScope()); // on the way it was nobody's
    return gradient;
  });
}

/**
 * Gradients on their way to nodes, counted, since a rule may return one tensor for several inputs. They belong to the scope of
 * the walk; what has been used is freed at once.
 */
class Pending {
  readonly #byNode = new Map<Node, Tensor>();
  readonly #uses = new Map<Tensor, number>();

  hold(t: Tensor): void {
    this.#uses.set(t, (this.#uses.get(t) ?? 0) + 1);
  }
  /** Drops one use; the last one frees the tensor. */
  drop(t: Tensor): void {
    const uses = (this.#uses.get(t) ?? 1) - 1;
    if (uses > 0) this.#uses.set(t, uses);
    else {
      this.#uses.delete(t);
      t.dispose();
    }
  }
  /** Drops one use but leaves the tensor to the caller, who may keep it only if it is nobody else's. */
  take(t: Tensor): Tensor {
    const uses = (this.#uses.get(t) ?? 1) - 1;
    if (uses === 0 && !isShared(t)) {
      this.#uses.delete(t);
      return t;
    }
    const own = arithmetic.copy(t);
    this.#uses.set(t, uses + 1);
    this.drop(t);
    return own;
  }
  /** Adds one held use of `t` to what waits for `node`. */
  push(node: Node, t: Tensor): void {
    const waiting = this.#byNode.get(node);
    if (!waiting) {
      this.#byNode.set(node, t);
      return;
    }
    const sum = arithmetic.add(waiting, t);
    this.drop(waiting);
    this.drop(t);
    this.hold(sum);
    this.#byNode.set(node, sum);
  }
  pull(node: Node): Tensor | undefined {
    const t = this.#byNode.get(node);
    this.#byNode.delete(node);
    return t;
  }
}

function walk(
  op: string,
  root: Tensor,
  gradient: Tensor | undefined,
  retainGraph: boolean,
  wanted: Map<Tensor | Node, Tensor | null> | null,
): void {
  root.handle(op);
  if (!root.requiresGrad)
    throw new AutogradError(
      op,
      "the tensor does not require a gradient",
      "a result of ops on tensors with requiresGrad",
    );
  if (gradient === undefined && root.size !== 1)
    throw new AutogradError(
      op,
      "a gradient must be given",
      "a tensor of one element, or its gradient",
      describe(root),
    );
  if (gradient !== undefined) {
    requireTensor(op, "gradient", gradient);
    if (!sameShape(gradient.shape, root.shape) || gradient.dtype !== root.dtype)
      throw new ShapeError(op, "the gradient has another shape or dtype", describe(root), describe(gradient));
  }
  noGrad(() =>
    scope(() => {
      const pending = new Pending();
      // the caller's storage, only read: take() copies what is shared
      const first = gradient ? alias(gradient, op) : arithmetic.onesLike(root);
      pending.hold(first);
      deliver(nodeOf(root) ?? root, first, pending, wanted);
      for (const node of reachable(nodeOf(root))) {
        const dy = pending.pull(node);
        if (!dy) continue;
        if (wanted?.has(node)) wanted.set(node, arithmetic.copy(dy).keep());
        const folded = node.folds === undefined ? null : node.edges[node.folds];
        const waiting = (folded instanceof Node && pending.pull(folded)) || null;
        const contributions = scope(() => {
          const raw = node.rule(dy, waiting);
          return raw.map((dx, k) => (dx && node.edges[k] ? fit(node, k, dx) : null));
        });
        for (const dx of contributions) if (dx) pending.hold(dx);
        watcher?.backward(node, contributions);
        pending.drop(dy);
        if (waiting) pending.drop(waiting);
        if (!retainGraph) node.freeSaved();
        contributions.forEach((dx, k) => {
          if (dx) deliver(node.edges[k], dx, pending, wanted);
        });
      }
    }),
  );
}

/** A contribution in the shape of its input: broadcasting undone, anything else refused. */
function fit(node: Node, k: number, dx: Tensor): Tensor {
  const { shape } = node.inputs[k];
  return sameShape(dx.shape, shape) ? dx : arithmetic.sumTo(dx, shape);
}

function deliver(
  edge: Edge,
  dx: Tensor,
  pending: Pending,
  wanted: Map<Tensor | Node, Tensor | null> | null,
): void {
  if (edge instanceof Node) pending.push(edge, dx);
  else if (!isTensor(edge) || edge.disposed || (wanted && !wanted.has(edge))) pending.drop(dx);
  else {
    const before = wanted ? wanted.get(edge) : edge.grad;
    let total: Tensor;
    if (before) {
      total = arithmetic.add(before, dx);
      before.dispose();
      pending.drop(dx);
    } else {
      total = pending.take(dx);
    }
    total.keep();
    if (wanted) wanted.set(edge, total);
    else edge.grad = total;
  }
}

/** The nodes below `root`, youngest first: an order in which every gradient is complete before it is passed on. */
function reachable(root: Node | null): Node[] {
  const found = new Set<Node>();
  const open = root ? [root] : [];
  for (let node = open.pop(); node; node = open.pop()) {
    if (found.has(node)) continue;
    found.add(node);
    for (const edge of node.edges) if (edge instanceof Node) open.push(edge);
  }
  return [...found].sort((a, b) => b.sequence - a.sequence);
}

/** Marks a leaf as one that wants a gradient. @throws for integers, and for results of recorded ops. */
export function requireGrad(t: Tensor, value = true): Tensor {
  requireTensor("requiresGrad", "tensor", t);
  if (value && !isDifferentiable(t.dtype))
    throw new AutogradError(
      "requiresGrad",
      "only floating tensors have gradients",
      "float32 or float64",
      t.dtype,
    );
  if (t.node) throw new AutogradError("requiresGrad", "the tensor is the result of a recorded op", "a leaf");
  t.requiresGrad = value;
  return t;
}
