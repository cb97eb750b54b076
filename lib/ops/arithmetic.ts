/** Functions of two tensors with NumPy broadcasting. A number takes the dtype of the tensor beside it. */
import type { DType } from "../tensor/dtype.js";
import { broadcastShapes } from "../tensor/shape.js";
import { isTensor, requireTensor, type Tensor } from "../tensor/tensor.js";
import { ArgumentError, DTypeError, show } from "../util/errors.js";
import { full } from "./create.js";
import { computes, defineOp, launch, requireFloat, requireSameDType, type Saved } from "./define.js";
import { log, neg } from "./elementwise.js";

export type Operand = Tensor | number;

/** Both operands as tensors; at least one must be one already. */
export function operands(op: string, a: Operand, b: Operand): [Tensor, Tensor] {
  const like = isTensor(a) ? a : isTensor(b) ? b : undefined;
  const lift = (v: Operand): Tensor => {
    if (isTensor(v)) return v;
    if (like && typeof v === "number") return full([], v, { dtype: like.dtype, device: like.device });
    throw new ArgumentError(op, "an operand is not valid", "a Tensor, or a number beside one", show(v));
  };
  return [lift(a), lift(b)];
}

type Gradient = (dy: Tensor, saved: Saved<void>) => readonly (Tensor | null)[];

function binary(
  name: string,
  kernel: string,
  check: (t: Tensor) => unknown,
  saves: { inputs?: readonly number[]; output?: boolean } | undefined,
  backward: Gradient,
): (a: Operand, b: Operand) => Tensor {
  const op = defineOp({
    name,
    infer: ([a, b]) => {
      check(a);
      return {
        shape: broadcastShapes(name, a.shape, b.shape),
        dtype: requireSameDType(name, a, b),
      };
    },
    forward: ([a, b], _, out) => launch(kernel, [a, b], [out]),
    saves,
    backward,
  });
  return (a, b) => op(operands(name, a, b));
}

/** Arithmetic of floats and integers; integers wrap. */
function number(op: string): (t: Tensor) => void {
  return (t) => {
    if (!computes(t) && t.dtype !== "int32" && t.dtype !== "int64" && t.dtype !== "uint8")
      throw new DTypeError(op, "needs numbers", "float32, float64, int32, int64 or uint8", t.dtype);
  };
}

/** a + b */
export const add = binary("add", "add_fwd", number("add"), undefined, (dy) => [dy, dy]);
/** a - b */
export const sub = binary("sub", "sub_fwd", number("sub"), undefined, (dy, { needs }) => [
  dy,
  needs[1] ? neg(dy) : null,
]);
/** a b */
export const mul = binary(
  "mul",
  "mul_fwd",
  number("mul"),
  { inputs: [0, 1] },
  (dy, { inputs: [a, b], needs }) => [needs[0] ? mul(dy, b) : null, needs[1] ? mul(dy, a) : null],
);
/** a / b of floats. */
export const div = binary(
  "div",
  "div_fwd",
  (t) => requireFloat("div", t),
  { inputs: [0, 1] },
  (dy, { inputs: [a, b], needs }) => [
    needs[0] ? div(dy, b) : null,
    needs[1] ? neg(div(mul(dy, a), mul(b, b))) : null,
  ],
);

/** a^b of floats. d/db is a^b log a, and 0 where a = 0. */
export const pow = binary(
  "pow",
  "pow_fwd",
  (t) => requireFloat("pow", t),
  { inputs: [0, 1], output: true },
  (dy, { inputs: [a, b], output, needs }) => [
    needs[0] ? mul(dy, mul(b, pow(a, sub(b, 1)))) : null,
    needs[1] ? mul(dy, where(eq(a, 0), 0, mul(output, log(a)))) : null,
  ],
);

/** The larger of two; NaN wins. Where they are equal each gets half of the gradient. */
export const maximum = binary("maximum", "maximum_fwd", number("maximum"), { inputs: [0, 1] }, (dy, saved) =>
  extremes(dy, saved, gt),
);
/** The smaller of two; NaN wins. Where they are equal each gets half of the gradient. */
export const minimum = binary("minimum", "minimum_fwd", number("minimum"), { inputs: [0, 1] }, (dy, saved) =>
  extremes(dy, saved, lt),
);

function extremes(
  dy: Tensor,
  { inputs: [a, b] }: Saved<void>,
  wins: (a: Tensor, b: Tensor) => Tensor,
): Tensor[] {
  const half = mul(dy, 0.5);
  const zero = mul(dy, 0);
  const share = (x: Tensor, y: Tensor) => where(wins(x, y), dy, where(eq(x, y), half, zero));
  return [share(a, b), share(b, a)];
}

function comparison(name: string): (a: Operand, b: Operand) => Tensor {
  const kernel = `${name}_fwd`;
  const op = defineOp({
    name,
    infer: ([a, b]) => {
      if (requireSameDType(name, a, b) === "bfloat16" && !computes(a))
        throw new DTypeError(name, "has no bfloat16 form (cast it)", "float32", "bfloat16");
      return {
        shape: broadcastShapes(name, a.shape, b.shape),
        dtype: "bool" as DType,
      };
    },
    forward: ([a, b], _, out) => launch(kernel, [a, b], [out]),
  });
  return (a, b) => op(operands(name, a, b));
}

/** a = b, as bool. Comparisons have no gradient. */
export const eq = comparison("eq");
/** a != b */
export const ne = comparison("ne");
/** a < b */
export const lt = comparison("lt");
/** a <= b */
export const le = comparison("le");
/** a > b */
export const gt = comparison("gt");
/** a >= b */
export const ge = comparison("ge");

const whereOp = defineOp({
  name: "where",
  infer: ([condition, a, b]) => {
    if (condition.dtype !== "bool")
      throw new DTypeError("where", "condition is not bool", "bool", condition.dtype);
    const dtype = requireSameDType("where", a, b);
    return {
      shape: broadcastShapes("where", broadcastShapes("where", condition.shape, a.shape), b.shape),
      dtype,
    };
  },
  forward: (inputs, _, out) => launch("where_fwd", inputs, [out]),
  saves: { inputs: [0] },
  backward: (dy, { inputs: [condition], needs }) => [
    null,
    needs[1] ? where(condition, dy, 0) : null,
    needs[2] ? where(condition, 0, dy) : null,
  ],
});
/** condition ? a : b, all three broadcast. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  return whereOp([requireTensor("where", "condition", condition), ...operands("where", a, b)]);
}
