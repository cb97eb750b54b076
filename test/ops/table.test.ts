/** Every check of every op, made from the rows of the table. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { DTypeError, grad, gradcheck, Tensor } from "../../lib/index.js";
import * as ops from "../../lib/ops/index.js";
import type { DType } from "../../lib/tensor/dtype.js";
import {
  expectClose,
  expectCloseValues,
  expectNormwise,
  same,
  type Tolerance,
  UNIT,
  ulps32,
  values,
} from "../helpers/compare.js";
import { fill, toTensor } from "../helpers/inputs.js";
import { leakFree, thrown } from "../helpers/leaks.js";
import { map, type NdArray, nd } from "../helpers/nd.js";
import { Random } from "../helpers/random.js";
import { table } from "./table/index.js";
import { ALL, type Case, FLOATS, type OpRow, type RowTolerance } from "./table/row.js";

type AnyCase = Case<readonly unknown[]>;
type AnyOp = (...args: unknown[]) => Tensor | Tensor[];
const exported = ops as unknown as Record<string, AnyOp>;

/** Checks made so far, by op. */
const checks = new Map<string, number>();
function counted(op: string): void {
  checks.set(op, (checks.get(op) ?? 0) + 1);
}

function describeCase(row: OpRow, c: AnyCase, dtype: DType): string {
  const shapes = c.inputs.map((input) => (input ? `[${input.shape.join(", ")}]` : "none")).join(" ");
  const extra = c.extra
    ? ` ${c.extra
        .map((value) => JSON.stringify(value))
        .join(" ")
        .slice(0, 80)}`
    : "";
  return `${row.op} ${dtype} ${shapes}${extra}`;
}

/** The inputs of a case: the same float64 numbers for every dtype, rounded to it. */
function inputsOf(c: AnyCase, dtype: DType, seed: string): (NdArray | null)[] {
  const random = new Random(seed);
  return c.inputs.map((input) => input && fill(input, input.dtype ?? dtype, random));
}
function tensorsOf(c: AnyCase, dtype: DType, arrays: readonly (NdArray | null)[]): (Tensor | null)[] {
  return c.inputs.map((input, k) => input && toTensor(arrays[k] as NdArray, input.dtype ?? dtype));
}

function argumentsOf(row: OpRow, c: AnyCase, tensors: readonly (Tensor | null)[], dtype: DType): unknown[] {
  return row.args ? row.args(tensors, c.extra ?? [], dtype) : [...tensors, ...(c.extra ?? [])];
}
function call(row: OpRow, c: AnyCase, tensors: readonly (Tensor | null)[], dtype: DType): Tensor[] {
  return [exported[row.op](...argumentsOf(row, c, tensors, dtype))].flat();
}
function reference(row: OpRow, c: AnyCase, arrays: readonly (NdArray | null)[]): NdArray[] {
  return [row.reference(arrays as readonly NdArray[], ...(c.extra ?? []))].flat();
}

/** The row's tolerance for one output of one case. */
function toleranceOf(
  row: OpRow,
  c: AnyCase,
  arrays: readonly (NdArray | null)[],
  want: NdArray,
  output: number,
  dtype: DType,
): Tolerance {
  const unit = UNIT[dtype];
  const chosen = c.tolerance ?? row.tolerance;
  if (!chosen || unit === undefined) return {};
  const { ulp = 0, ofLargest = 0, terms, slack }: RowTolerance = chosen;
  const largest = want.data.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const sums =
    terms &&
    reference(
      row,
      c,
      arrays.map((x) => x && map(x, Math.abs)),
    )[output].data;
  if (dtype === "float64")
    return {
      rtol: 1e-12,
      atol: ofLargest > 0 ? 1e-12 * largest : 0,
      scale: sums?.map((v) => 1e-12 * v),
    };
  const factor = terms
    ? 2 *
      Math.sqrt(
        (terms as (...args: unknown[]) => number)(
          c.inputs.map((input) => input?.shape ?? []),
          ...(c.extra ?? []),
        ),
      ) *
      unit
    : 0;
  const scale = sums ? sums.map((v) => factor * v) : slack && arrays[0]?.data.map(slack);
  // results below the normal range have an absolute precision only
  return {
    rtol: 2 * ulp * unit,
    atol: 2 * ofLargest * unit * largest + 2 ** -149,
    scale,
  };
}

/** A whole number as the dtype stores it. */
function wrap(value: number, dtype: DType): number {
  if (dtype === "int32") return value | 0;
  return dtype === "uint8" ? ((value % 256) + 256) % 256 : value;
}

function checkValue(row: OpRow, c: AnyCase, dtype: DType): void {
  const what = describeCase(row, c, dtype);
  const arrays = inputsOf(c, dtype, what.replace(dtype, ""));
  const tensors = tensorsOf(c, dtype, arrays);
  const got = call(row, c, tensors, dtype);
  const want = reference(row, c, arrays);
  assert.is(got.length, want.length, `${what}: number of outputs`);
  const outDType = row.output ? row.output(dtype, ...(c.extra ?? [])) : dtype;
  got.forEach((t, k) => {
    assert.is(t.dtype, outDType, `${what}: dtype`);
    assert.is(t.device, "cpu");
    const expected = FLOATS.includes(outDType) ? want[k] : map(want[k], (v) => wrap(v, outDType));
    expectClose(what, t, expected, toleranceOf(row, c, arrays, want[k], k, outDType));
    counted(row.op);
  });
  for (const [k, t] of tensors.entries())
    if (t) assert.equal(values(t), (arrays[k] as NdArray).data, `${what}: input ${k} was changed`);
}

/** The places of inputs that gradients are checked for. */
function differentiable(row: OpRow, c: AnyCase): number[] {
  const free = c.inputs.flatMap((input, k) => (input && input.dtype === undefined ? [k] : []));
  return row.gradients ? free.filter((k) => row.gradients?.includes(k)) : free;
}
const elements = (list: readonly { shape: readonly number[] }[]) =>
  list.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

/** Several outputs in one tensor. */
function joined(outputs: Tensor[]): Tensor {
  return outputs.length === 1 ? outputs[0] : ops.concat(outputs.map((t) => ops.reshape(t, [-1])));
}

function checkGradient(row: OpRow, c: AnyCase): void {
  const places = differentiable(row, c);
  if (places.length === 0 || c.gradcheck === false || !(c.dtypes ?? row.dtypes).includes("float64")) return;
  const what = describeCase(row, c, "float64");
  const arrays = inputsOf(c, "float64", what.replace("float64", ""));
  if (reference(row, c, arrays).some(({ data }) => data.some(Number.isNaN))) return;
  const given = elements(c.inputs.filter((input) => input !== null));
  const made = elements(reference(row, c, arrays));
  if (given === 0 || made === 0) {
    checkEmptyGradient(row, c, places, what);
    return;
  }
  if (c.gradcheck || (given <= 40 && made <= 40)) {
    const tensors = tensorsOf(c, "float64", arrays);
    const leaves = places.map((k) => requireGrad(tensors[k] as Tensor));
    const apply = (...moved: Tensor[]) => {
      const all = [...tensors];
      places.forEach((k, i) => {
        all[k] = moved[i];
      });
      return joined(call(row, c, all, "float64"));
    };
    try {
      gradcheck(apply, leaves);
    } catch (error) {
      (error as Error).message = `${what}: ${(error as Error).message}`;
      throw error;
    }
    counted(row.op);
  }
  checkFloat32Gradient(row, c, places, what, arrays);
}

function requireGrad(t: Tensor): Tensor {
  t.requiresGrad = true;
  return t;
}

/** An op on nothing, or with no result, has gradients of the right shape, all of them zeros. */
function checkEmptyGradient(row: OpRow, c: AnyCase, places: number[], what: string): void {
  for (const dtype of FLOATS.filter((dtype) => (c.dtypes ?? row.dtypes).includes(dtype))) {
    const tensors = tensorsOf(c, dtype, inputsOf(c, dtype, what));
    const leaves = places.map((k) => requireGrad(tensors[k] as Tensor));
    const output = joined(call(row, c, tensors, dtype));
    if (output === leaves[0]) return;
    grad(output, leaves, {
      gradient: ops.ones(output.shape, { dtype }),
    }).forEach((g, k) => {
      if (!g) return;
      assert.equal([...g.shape], [...leaves[k].shape], `${what}: shape of the gradient`);
    });
    counted(row.op);
  }
}

/** float32 kernels are code of their own: their gradients against the float64 ones, which gradcheck has checked. */
function checkFloat32Gradient(
  row: OpRow,
  c: AnyCase,
  places: number[],
  what: string,
  exact: readonly (NdArray | null)[],
): void {
  if (!(c.dtypes ?? row.dtypes).includes("float32")) return;
  const rounded = exact.map((x, k) => x && (c.inputs[k]?.dtype ? x : map(x, Math.fround)));
  const gradients = FLOATS.map((dtype) => {
    const tensors = tensorsOf(c, dtype, rounded);
    const leaves = places.map((k) => requireGrad(tensors[k] as Tensor));
    const output = joined(call(row, c, tensors, dtype));
    if (leaves.includes(output)) return [];
    const random = new Random(what);
    const dy = nd(
      output.shape,
      Float64Array.from({ length: output.size }, () => Math.fround(random.between(-1, 1))),
    );
    return grad(output, leaves, { gradient: toTensor(dy, dtype) }).map((g) =>
      g ? values(g) : new Float64Array(),
    );
  });
  gradients[0].forEach((g, k) => {
    expectNormwise(
      `${what}: float32 gradient of input ${places[k]}`,
      g,
      gradients[1][k],
      c.gradientTolerance ?? 1e-5,
    );
    counted(row.op);
  });
}

/** Every dtype that the row does not name is refused, and so are two that differ. */
function checkDTypes(row: OpRow): void {
  const c = row.cases.find(
    (c) =>
      differentiable({ ...row, gradients: undefined }, c).length > 0 &&
      !c.inputs.some((input) => input?.shape.includes(0)),
  );
  if (!c || row.refusesDTypes === false) return;
  const attempt = (dtypes: (k: number) => DType) => () => {
    const tensors = c.inputs.map((input, k) => {
      const dtype = input?.dtype ?? dtypes(k);
      return input && toTensor(fill(input, dtype, new Random(row.op)), dtype);
    });
    return call(row, c, tensors, "float32");
  };
  for (const dtype of ALL) {
    if (row.dtypes.includes(dtype)) continue;
    thrown(
      attempt(() => dtype),
      DTypeError,
      `${row.op} of ${dtype}`,
    );
    counted(row.op);
  }
  const free = differentiable({ ...row, gradients: undefined }, c);
  if (free.length < 2) return;
  const [a, b] = row.dtypes;
  for (const k of free.slice(1)) {
    thrown(
      attempt((at) => (at === k ? b : a)),
      DTypeError,
      `${row.op} with input ${k} of ${b} beside ${a}`,
    );
    counted(row.op);
  }
}

/** NaN, infinities, zeros of both signs, the ends of the normal and subnormal ranges, and some ordinary values. */
const SPECIAL: Record<"float32" | "float64", readonly number[]> = {
  float32: [0, -0, 1, -1, 0.5, -2, 20, 21, 100, -100, 2 ** -126, -(2 ** -126), 2 ** -149, -(2 ** -149), 3 * 2 ** -140, (2 - 2 ** -23) * 2 ** 127, -(2 - 2 ** -23) * 2 ** 127, Infinity, -Infinity, Number.NaN], // biome-ignore format: one table
  float64: [
    0,
    -0,
    1,
    -1,
    0.5,
    -2,
    20,
    21,
    800,
    -800,
    2 ** -1022,
    -(2 ** -1022),
    Number.MIN_VALUE,
    -Number.MIN_VALUE,
    3e-310,
    Number.MAX_VALUE,
    -Number.MAX_VALUE,
    Infinity,
    -Infinity,
    Number.NaN,
  ],
};

function checkSpecial(
  row: OpRow,
  dtype: "float32" | "float64",
  got: Tensor,
  want: readonly number[],
  describe: (k: number) => string,
  slack: (k: number) => number = () => 0,
): void {
  const result = values(got);
  const ulp = row.tolerance?.ulp ?? 0;
  want.forEach((exact, k) => {
    const rounded = dtype === "float32" && got.dtype !== "bool" ? Math.fround(exact) : exact;
    const spacing =
      dtype === "float32"
        ? Math.max(2 ** -149, 2 ** -23 * Math.abs(exact))
        : Math.max(Number.MIN_VALUE, 1e-12 * Math.abs(exact));
    const equal =
      same(result[k], rounded, row.signedZero !== false) ||
      (Number.isFinite(rounded) &&
        rounded !== 0 &&
        Math.abs(result[k] - exact) <= ulp * spacing + (dtype === "float32" ? slack(k) : 0));
    assert.ok(
      equal,
      `${describe(k)}: got ${Object.is(result[k], -0) ? "-0" : result[k]}, want ${Object.is(rounded, -0) ? "-0" : rounded}`,
    );
    counted(row.op);
  });
}
function checkSpecialValues(row: OpRow): void {
  for (const dtype of ["float32", "float64"] as const) {
    const special = SPECIAL[dtype];
    const n = special.length;
    if (row.unary) {
      const [got] = call(row, row.cases[0], [toTensor(nd([n], special), dtype)], dtype);
      checkSpecial(
        row,
        dtype,
        got,
        special.map(row.unary),
        (k) => `${row.op}(${special[k]}) in ${dtype}`,
        (k) => row.tolerance?.slack?.(special[k]) ?? 0,
      );
    }
    if (row.binary) {
      const [a, b] = [nd([n, 1], special), nd([n], special)];
      const [got] = call(row, row.cases[0], [toTensor(a, dtype), toTensor(b, dtype)], dtype);
      const pairs = special.flatMap((x) => special.map((y) => [x, y] as const));
      const { binary } = row;
      checkSpecial(
        row,
        dtype,
        got,
        pairs.map(([x, y]) => binary(x, y)),
        (k) => `${row.op}(${pairs[k]}) in ${dtype}`,
      );
    }
  }
}

/** All exponents and both signs of float32, and the middle densely. */
function sweep(): Float32Array {
  const spread = Uint32Array.from({ length: 32768 }, (_, k) => (k * 131071) >>> 0);
  const middle = Float32Array.from({ length: 16384 }, (_, k) => (k / 8192 - 1) * 25);
  return Float32Array.from([...new Float32Array(spread.buffer), ...middle]);
}
const SWEEP = sweep();

function checkUlps(row: OpRow): void {
  if (!row.unary) return;
  const limit = row.tolerance?.ulp ?? 0;
  const [got] = call(row, row.cases[0], [ops.tensor(SWEEP)], "float32");
  const result = values(got);
  let [worst, at] = [0, 0];
  for (let k = 0; k < SWEEP.length; k++) {
    const exact = row.unary(SWEEP[k]);
    const error = ulps32(result[k], exact);
    if (error <= worst || Math.abs(result[k] - exact) <= (row.tolerance?.slack?.(SWEEP[k]) ?? 0)) continue;
    [worst, at] = [error, k];
  }
  assert.ok(
    worst <= limit,
    `${row.op}: ${worst.toFixed(2)} ULP at ${SWEEP[at]}: got ${result[at]}, want ${row.unary(SWEEP[at])}; allowed ${limit}`,
  );
  counted(row.op);
}

/** `x.op(...)` gives what `op(x, ...)` gives. */
function checkMethod(row: OpRow): void {
  const method = (Tensor.prototype as unknown as Record<string, unknown>)[row.op];
  if (row.method === false) return;
  assert.type(method, "function", `Tensor.prototype.${row.op}`);
  const c = row.cases[0];
  const dtype = (c.dtypes ?? row.dtypes)[0];
  const tensors = tensorsOf(c, dtype, inputsOf(c, dtype, row.op));
  const [first, ...rest] = argumentsOf(row, c, tensors, dtype);
  const got = [(first as unknown as Record<string, AnyOp>)[row.op](...rest)].flat();
  const want = call(row, c, tensors, dtype);
  got.forEach((t, k) => expectCloseValues(`${row.op} as a method`, values(t), values(want[k]), {}));
}

for (const row of table) {
  const test = suite(row.op);
  for (const dtype of row.dtypes)
    test(
      `${dtype}: value`,
      leakFree(() => {
        for (const c of row.cases) if ((c.dtypes ?? row.dtypes).includes(dtype)) checkValue(row, c, dtype);
      }),
    );
  test(
    "gradient",
    leakFree(() => {
      for (const c of row.cases) checkGradient(row, c);
    }),
  );
  test(
    "dtypes",
    leakFree(() => checkDTypes(row)),
  );
  test(
    "special values",
    leakFree(() => checkSpecialValues(row)),
  );
  test(
    "units in the last place",
    leakFree(() => checkUlps(row)),
  );
  test(
    "method",
    leakFree(() => checkMethod(row)),
  );
  for (const { what, call, error } of row.errors)
    test(
      `refuses ${what}`,
      leakFree(() => {
        const { message } = thrown(call, error, `${row.op}, ${what}`);
        assert.match(message, /^[A-Za-z][A-Za-z0-9]*: ./, "an error begins with the name of the op");
        counted(row.op);
      }),
    );
  test.run();
}

const completeness = suite("the op table");
const rows = table.map((row) => row.op);
completeness("has a row for every exported op, and no other", () => {
  const functions = Object.entries(ops)
    .filter(([, value]) => typeof value === "function")
    .map(([name]) => name);
  assert.equal([...rows].sort(), functions.sort());
});
completeness("has every method of Tensor that is an op, and no other", () => {
  const own = new Set([
    "constructor",
    "handle",
    "ownedBy",
    "moveTo",
    "keep",
    "dispose",
    "detach",
    "toTypedArray",
    "toArray",
    "item",
    "toString",
    "backward",
  ]);
  const methods = Object.entries(Object.getOwnPropertyDescriptors(Tensor.prototype))
    .filter(([name, property]) => typeof property.value === "function" && !own.has(name))
    .map(([name]) => name);
  assert.equal(
    methods.sort(),
    table
      .filter((row) => row.method !== false)
      .map((row) => row.op)
      .sort(),
  );
});
completeness("makes at least 40 checks of every op", () => {
  const few = rows.filter((op) => (checks.get(op) ?? 0) < 40);
  assert.equal(few, [], few.map((op) => `${op}: ${checks.get(op) ?? 0}`).join(", "));
  console.log(`  ${[...checks.values()].reduce((a, b) => a + b, 0)} checks`);
});
completeness.run();
