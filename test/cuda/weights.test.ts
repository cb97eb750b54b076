/** Products in bfloat16 keep a rounded copy of a weight: however the weight changes, they see it as it is. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { add, capture, full, linear, noGrad, ones, SGD, sum, type Tensor } from "../../lib/index.js";
import { copyInto } from "../../lib/nn/module.js";
import { values } from "../helpers/compare.js";
import { on } from "../helpers/devices.js";
import { leakFree } from "../helpers/leaks.js";

const weights = suite("weights of bfloat16 products");
const device = "cuda";
const SIZE = 16;

/** [16, 16], float32, all elements `value`. */
const square = (value: number): Tensor => full([SIZE, SIZE], value, { device });
/** Each element of x weight^T, x being ones: 16 times the weight's. */
function product(weight: Tensor): number {
  return noGrad(() => values(linear(square(1).to("bfloat16"), weight))[0]);
}

on(
  weights,
  device,
  "written by an op, written by an optimiser, or in another tensor's place",
  leakFree(() => {
    const weight = square(1);
    assert.is(product(weight), 16);
    copyInto(weight, square(2));
    assert.is(product(weight), 32);
    assert.is(product(weight), 32, "once more, unchanged");
    weight.requiresGrad = true;
    const optimizer = new SGD([weight], { lr: 1 });
    sum(linear(square(-1 / SIZE).to("bfloat16"), weight)).backward();
    optimizer.step();
    assert.is(product(weight), 48);
    optimizer.dispose();
    weight.dispose();
    for (const value of [4, 5, 6]) {
      const next = square(value);
      assert.is(product(next), SIZE * value);
      next.dispose();
    }
  }),
);

on(
  weights,
  device,
  "the same memory with another shape",
  leakFree(() => {
    const weight = square(1);
    assert.is(product(weight), 16);
    const long = weight.reshape([2, 128]);
    const x = ones([1, 128], { device }).to("bfloat16");
    const y = noGrad(() => linear(x, long));
    assert.is(values(y)[1], 128);
    assert.is(product(weight), 16);
  }),
);

on(
  weights,
  device,
  "read and written by recorded work",
  leakFree(() => {
    const weight = square(1);
    const x = square(1).to("bfloat16");
    const step = () =>
      noGrad(() => {
        const y = linear(x, weight);
        copyInto(weight, add(weight, 1));
        return y;
      });
    step().dispose();
    assert.is(product(weight), 32, "a copy from outside");
    const { graph, result } = capture(step);
    for (const value of [2, 3, 4]) {
      graph.replay();
      assert.is(values(result)[0], SIZE * value, "in the recording");
      assert.is(product(weight), SIZE * (value + 1), "after it");
    }
    copyInto(weight, square(9));
    graph.replay();
    assert.is(values(result)[0], SIZE * 9);
    for (const held of [result, graph]) held.dispose();
  }),
);

weights.run();
