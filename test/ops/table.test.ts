/** Every check of every op, made from the rows of the table. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Device, DTypeError, grad, gradcheck, Tensor } from "../../lib/index.js";
import * as ops from "../../lib/ops/index.js";
import type { DType } from "../../lib/tensor/dtype.js";
import {
  expectClose,
  expectCloseValues,
  expectNormwise,
  norm,
  same,
  ulps32,
  values,
} from "../helpers/compare.js";
import { on, onEach } from "../helpers/devices.js";
import { chosen, shareOf } from "../helpers/environment.js";
import { fill, roundTo, toTensor } from "../helpers/inputs.js";
import { leakFree, thrown } from "../helpers/leaks.js";
import { count, map, type NdArray, nd } from "../helpers/nd.js";
import { Random } from "../helpers/random.js";
import { table } from "./table/index.js";
import { ALL, FLOATS, type OpRow } from "./table/row.js";
import {
  type AnyCase,
  type AnyOp,
  type Arrays,
  argumentsOf,
  arraysOf,
  call,
  describeRun,
  dtypesOf,
  includes,
  inputDType,
  joined,
  nameOf,
  type Run,
  reference,
  tensorsOf,
} from "./table/run.js";
import { gradientLimit, toleranceOf } from "./table/tolerance.js";

/** Checks made so far, by op. */
const checks = new Map<string, number>();
function counted(op: string): void {
  checks.set(op, (checks.get(op) ?? 0) + 1);
}

/** A whole number as the dtype stores it. */
function wrap(value: number, dtype: DType): number {
  if (dtype === "int32") return value | 0;
  return dtype === "uint8" ? ((value % 256) + 256) % 256 : value;
}

function checkValue(run: Run): void {
  const { row, c, dtype, device } = run;
  const what = describeRun(run);
  const arrays = arraysOf(run);
  const tensors = tensorsOf(run, arrays);
  const got = call(run, tensors);
  const want = reference(run, arrays);
  assert.is(got.length, want.length, `${what}: number of outputs`);
  const extra = c.extra ?? [];
  const outDType = row.output ? row.output(dtype, ...extra) : dtype;
  got.forEach((t, k) => {
    assert.is(t.dtype, outDType, `${what}: dtype`);
    assert.is(t.device, row.device ? row.device(device, ...extra) : device, `${what}: device`);
    const expected = FLOATS.includes(outDType) ? want[k] : map(want[k], (v) => wrap(v, outDType));
    expectClose(what, t, expected, toleranceOf(run, arrays, want[k], k, outDType));
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
  list.reduce((sum, { shape }) => sum + count(shape), 0);

function checkGradient(row: OpRow, c: AnyCase, device: Device): void {
  const exact: Run = { row, c, dtype: "float64", device };
  const places = differentiable(row, c);
  if (places.length === 0 || c.gradcheck === false || !includes(exact)) return;
  const arrays = arraysOf(exact);
  const results = reference(exact, arrays);
  if (results.some(({ data }) => data.some(Number.isNaN))) return;
  const [given, made] = [elements(c.inputs.filter((input) => input !== null)), elements(results)];
  if (given === 0 || made === 0) {
    for (const dtype of ["float32", "float64", "bfloat16"] as const)
      if (hasGradient({ ...exact, dtype })) checkEmptyGradient({ ...exact, dtype }, places);
    return;
  }
  if (c.gradcheck || (given <= 40 && made <= 40)) checkDifferences(exact, places, arrays);
  checkRoundedGradients(exact, places, arrays, "float32", device === "cpu" ? ["float32"] : FLOATS);
  checkRoundedGradients(exact, places, arrays, "bfloat16", ["bfloat16"]);
}

/** Floats have gradients everywhere, bfloat16 where a device computes in it. */
function hasGradient(run: Run): boolean {
  return (run.dtype !== "bfloat16" || run.device === "cuda") && includes(run);
}

function leaf(t: Tensor | null): Tensor {
  (t as Tensor).requiresGrad = true;
  return t as Tensor;
}

/** Central differences in float64. */
function checkDifferences(run: Run, places: number[], arrays: Arrays): void {
  const tensors = tensorsOf(run, arrays);
  const apply = (...moved: Tensor[]) => {
    const all = [...tensors];
    places.forEach((k, i) => {
      all[k] = moved[i];
    });
    return joined(call(run, all));
  };
  try {
    gradcheck(
      apply,
      places.map((k) => leaf(tensors[k])),
    );
  } catch (error) {
    (error as Error).message = `${describeRun(run)}: ${(error as Error).message}`;
    throw error;
  }
  counted(run.row.op);
}

/** An op on nothing, or with no result, has gradients of the right shape. */
function checkEmptyGradient(run: Run, places: number[]): void {
  const tensors = tensorsOf(run, arraysOf(run));
  const leaves = places.map((k) => leaf(tensors[k]));
  const output = joined(call(run, tensors));
  const { shape, dtype, device } = output;
  grad(output, leaves, { gradient: ops.ones(shape, { dtype, device }) }).forEach((g, k) => {
    if (g) assert.equal([...g.shape], [...leaves[k].shape], `${describeRun(run)}: shape of the gradient`);
  });
  counted(run.row.op);
}

/** The gradients of a run, for each of `draws` random dy; inputs and dy are rounded to `rounding`, whatever the dtype of the run. */
function gradientsOf(
  run: Run,
  places: number[],
  arrays: Arrays,
  rounding: DType,
  draws = 1,
): Float64Array[][] {
  const tensors = tensorsOf(run, arrays);
  const leaves = places.map((k) => leaf(tensors[k]));
  const output = joined(call(run, tensors));
  const random = new Random(`dy of ${nameOf(run)}`);
  return Array.from({ length: draws }, (_, draw) => {
    const dy = Float64Array.from({ length: output.size }, () => random.between(-1, 1));
    const gradient = toTensor(roundTo(nd(output.shape, dy), rounding), output.dtype, output.device);
    return grad(output, leaves, { gradient, retainGraph: draw < draws - 1 }).map((g, k) => {
      if (!g) return new Float64Array();
      const { dtype, device } = leaves[k];
      assert.equal(
        [g.dtype, g.device],
        [dtype, device],
        `${describeRun(run)}: gradient of input ${places[k]}`,
      );
      return values(g);
    });
  });
}

/** Kernels of other dtypes and devices are code of their own: against the CPU's float64 gradients, which gradcheck has checked. */
function checkRoundedGradients(
  exact: Run,
  places: number[],
  arrays: Arrays,
  rounding: "float32" | "bfloat16",
  dtypes: readonly DType[],
): void {
  const { row, c } = exact;
  if (!hasGradient({ ...exact, dtype: rounding })) return;
  const inputs = arrays.map((x, k) => x && roundTo(x, inputDType({ ...exact, dtype: rounding }, k)));
  const draws = rounding === "bfloat16" ? 8 : 1;
  const [want, ...others] = gradientsOf({ ...exact, device: "cpu" }, places, inputs, rounding, draws);
  for (const dtype of dtypes as readonly ("float32" | "float64" | "bfloat16")[]) {
    const run = { ...exact, dtype };
    const [got] = gradientsOf(run, places, inputs, rounding);
    got.forEach((g, k) => {
      // what is summed may cancel for one dy: the rounding of its terms is judged by the usual size of the sum
      const usual = norm(others.map((draw) => norm(draw[k]))) / Math.sqrt(Math.max(1, others.length));
      if (dtype === "bfloat16" && usual === 0) return;
      const what = `${describeRun(run)}: gradient of input ${places[k]}`;
      expectNormwise(what, g, want[k], gradientLimit(c, dtype), usual);
      counted(row.op);
    });
  }
}

/** Every dtype that the row does not name is refused, and so are two that differ. */
function checkDTypes(row: OpRow): void {
  const everywhere = { ...row, gradients: undefined };
  const c = row.cases.find(
    (c) => differentiable(everywhere, c).length > 0 && !c.inputs.some((input) => input?.shape.includes(0)),
  );
  if (!c || row.refusesDTypes === false) return;
  const attempt = (dtypes: (k: number) => DType) => () => {
    const tensors = c.inputs.map((input, k) => {
      const dtype = input?.dtype ?? dtypes(k);
      return input && toTensor(fill(input, dtype, new Random(row.op)), dtype);
    });
    return call({ row, c, dtype: "float32", device: "cpu" }, tensors);
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
  const free = differentiable(everywhere, c);
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
function checkSpecialValues(row: OpRow, device: Device): void {
  for (const dtype of ["float32", "float64"] as const) {
    const run: Run = { row, c: row.cases[0], dtype, device };
    const special = SPECIAL[dtype];
    const n = special.length;
    if (row.unary) {
      const [got] = call(run, [toTensor(nd([n], special), dtype, device)]);
      checkSpecial(
        row,
        dtype,
        got,
        special.map(row.unary),
        (k) => `${device}: ${row.op}(${special[k]}) in ${dtype}`,
        (k) => row.tolerance?.slack?.(special[k]) ?? 0,
      );
    }
    if (row.binary) {
      const [a, b] = [nd([n, 1], special), nd([n], special)];
      const [got] = call(run, [toTensor(a, dtype, device), toTensor(b, dtype, device)]);
      const pairs = special.flatMap((x) => special.map((y) => [x, y] as const));
      const { binary } = row;
      checkSpecial(
        row,
        dtype,
        got,
        pairs.map(([x, y]) => binary(x, y)),
        (k) => `${device}: ${row.op}(${pairs[k]}) in ${dtype}`,
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

function checkUlps(row: OpRow, device: Device): void {
  if (!row.unary) return;
  const limit = row.tolerance?.ulp ?? 0;
  const [got] = call({ row, c: row.cases[0], dtype: "float32", device }, [ops.tensor(SWEEP, { device })]);
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
    `${device}: ${row.op}: ${worst.toFixed(2)} ULP at ${SWEEP[at]}: got ${result[at]}, want ${row.unary(SWEEP[at])}; allowed ${limit}`,
  );
  counted(row.op);
}

/** `x.op(...)` gives what `op(x, ...)` gives. */
function checkMethod(row: OpRow): void {
  const method = (Tensor.prototype as unknown as Record<string, unknown>)[row.op];
  assert.type(method, "function", `Tensor.prototype.${row.op}`);
  const c = row.cases[0];
  const run: Run = { row, c, dtype: (c.dtypes ?? row.dtypes)[0], device: "cpu" };
  const tensors = tensorsOf(run, arraysOf(run));
  const [first, ...rest] = argumentsOf(run, tensors);
  const got = [(first as unknown as Record<string, AnyOp>)[row.op](...rest)].flat();
  const want = call(run, tensors);
  got.forEach((t, k) => expectCloseValues(`${row.op} as a method`, values(t), values(want[k]), {}));
}

const chosenOps = chosen(
  "QUADMAMBA_TEST_OPS",
  table.map((row) => row.op),
);
for (const row of table) {
  if (chosenOps && !chosenOps.includes(row.op)) continue;
  const cases = shareOf("QUADMAMBA_TEST_CASES", row.cases);
  if (cases.length === 0) continue;
  const test = suite(row.op);
  for (const device of ["cpu", "cuda"] as const)
    for (const dtype of dtypesOf(row, device))
      on(
        test,
        device,
        `${dtype} value`,
        leakFree(() => {
          for (const c of cases) {
            const run = { row, c, dtype, device };
            if (includes(run)) checkValue(run);
          }
        }),
      );
  if (row.gradients?.length !== 0)
    onEach(
      test,
      "gradient",
      leakFree((device) => {
        for (const c of cases) checkGradient(row, c, device);
      }),
    );
  if (row.unary || row.binary)
    onEach(
      test,
      "special values",
      leakFree((device) => checkSpecialValues(row, device)),
    );
  if (row.unary)
    onEach(
      test,
      "units in the last place",
      leakFree((device) => checkUlps(row, device)),
    );
  // what comes before any kernel is the same on every device
  on(
    test,
    "cpu",
    "dtypes",
    leakFree(() => checkDTypes(row)),
  );
  if (row.method !== false)
    on(
      test,
      "cpu",
      "method",
      leakFree(() => checkMethod(row)),
    );
  for (const { what, call, error } of row.errors)
    on(
      test,
      "cpu",
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
on(completeness, "cpu", "makes at least 40 checks of every op", () => {
  const few = rows.filter((op) => (checks.get(op) ?? 0) < 40);
  assert.equal(few, [], few.map((op) => `${op}: ${checks.get(op) ?? 0}`).join(", "));
  console.log(`  ${[...checks.values()].reduce((a, b) => a + b, 0)} checks`);
});
if (!chosenOps && !process.env.QUADMAMBA_TEST_CASES) completeness.run();
