/** TF32: where it is allowed, float32 products round their operands to 10 bits of mantissa, and nothing else changes. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  allowTf32,
  type Device,
  geluLinear,
  linear,
  matmul,
  scope,
  sum,
  type Tensor,
  tensor,
} from "../../lib/index.js";
import { norm, values } from "../helpers/compare.js";
import { on } from "../helpers/devices.js";
import { Random } from "../helpers/random.js";

const tf32 = suite("TF32");

/** Rows, inner, columns: around the edges of tiles, with and without pieces of the inner dimension. */
const SIZES: readonly (readonly [number, number, number])[] = [
  [1, 1, 1],
  [5, 7, 3],
  [64, 33, 65],
  [127, 129, 97],
  [128, 16, 192],
  [130, 40, 300],
  [300, 2, 96],
  [24, 5000, 40],
  [97, 2051, 49],
];

type Values = (random: Random) => number;
interface Products {
  [name: string]: (x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor) => Tensor[];
}

/** All products of float32: both operands in either order, with what they take along. */
const PRODUCTS: Products = {
  linear: (x, weight, bias, dy) => withGradients(linear(x, weight, bias), [x, weight], dy),
  geluLinear: (x, weight, bias, dy) => withGradients(geluLinear(x, weight, bias), [x, weight], dy),
  "matmul, transposed": (x, weight, _, dy) => [
    matmul(dy, x, { transposeA: true }),
    matmul(x, dy, { transposeA: true }),
    matmul(weight, x, { transposeB: true }),
  ],
};

function withGradients(y: Tensor, leaves: Tensor[], dy: Tensor): Tensor[] {
  sum(y.mul(dy)).backward();
  return [y, ...leaves.map((t) => t.grad as Tensor)];
}

/** The results on a device, as float64. */
function results(
  device: Device,
  dtype: "float32" | "float64",
  product: Products[string],
  [rows, inner, columns]: readonly [number, number, number],
  value: Values,
): Float64Array[] {
  return scope(() => {
    const random = new Random(`${rows} ${inner} ${columns}`);
    const draw = (shape: number[]) =>
      tensor(
        // what float32 holds, so that all devices start from the same
        Float64Array.from({ length: shape.reduce((a, b) => a * b) }, () => Math.fround(value(random))),
        shape,
        { dtype, device },
      );
    const [x, weight] = [draw([rows, inner]), draw([columns, inner])];
    const [bias, dy] = [draw([columns]), draw([rows, columns])];
    x.requiresGrad = true;
    weight.requiresGrad = true;
    const found = product(x, weight, bias, dy).map(values);
    for (const t of [x, weight]) {
      t.grad?.dispose();
      t.grad = null;
    }
    return found;
  });
}

function withTf32<T>(body: () => T): T {
  allowTf32(true);
  try {
    return body();
  } finally {
    allowTf32(false);
  }
}

for (const name of ["linear", "matmul, transposed"])
  on(tf32, "cuda", `${name}: small whole numbers are exact`, () => {
    const whole: Values = (random) => random.integer(-8, 8);
    for (const size of SIZES) {
      const want = results("cpu", "float32", PRODUCTS[name], size, whole);
      const got = withTf32(() => results("cuda", "float32", PRODUCTS[name], size, whole));
      assert.equal(got, want, `${name} ${size}`);
    }
  });

on(tf32, "cuda", "other numbers lose what 10 bits lose, and only where it is allowed", () => {
  const any: Values = (random) => random.between(-2, 2);
  const error = (got: Float64Array, want: Float64Array): number =>
    norm(want.map((v, k) => got[k] - v)) / norm(want);
  for (const [name, product] of Object.entries(PRODUCTS))
    for (const size of SIZES) {
      const want = results("cpu", "float64", product, size, any);
      const exact = results("cuda", "float32", product, size, any);
      const rounded = withTf32(() => results("cuda", "float32", product, size, any));
      want.forEach((truth, k) => {
        const where = `${name} ${size}, result ${k}`;
        assert.ok(error(exact[k], truth) < 1e-5, `${where} in float32: ${error(exact[k], truth)}`);
        assert.ok(error(rounded[k], truth) < 1e-3, `${where} in TF32: ${error(rounded[k], truth)}`);
        if (truth.length > 1000)
          assert.ok(error(rounded[k], truth) > 2e-5, `${where} in TF32 is as good as float32`);
      });
      const again = withTf32(() => results("cuda", "float32", product, size, any));
      assert.equal(again, rounded, `${name} ${size}: run again`);
    }
});

tf32.run();
