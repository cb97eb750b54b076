/** The instrument itself: gradcheck accepts right gradients, refuses wrong ones, and works on ops that a user defines. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  ArgumentError,
  AutogradError,
  add,
  DTypeError,
  defineOp,
  exp,
  gradcheck,
  mul,
  ones,
  ShapeError,
  scope,
  sum,
  type Tensor,
  tensor,
} from "../../lib/index.js";
import { values } from "../helpers/compare.js";
import { leakFree, thrown } from "../helpers/leaks.js";

const test = suite("gradcheck");
const leaf = (data: number[]): Tensor => tensor(data, { dtype: "float64", requiresGrad: true });

/** x^2 with a gradient that is off by a factor. */
function square(factor: number): (x: Tensor) => Tensor {
  const op = defineOp({
    name: "square",
    infer: ([x]) => ({ shape: x.shape, dtype: x.dtype }),
    forward: ([x]) => mul(x.detach(), x.detach()),
    saves: { inputs: [0] },
    backward: (dy, { inputs: [x] }) => [mul(dy, mul(x, 2 * factor))],
  });
  return (x) => op([x]);
}

test(
  "accepts a right gradient of an op that a user defines",
  leakFree(() => {
    assert.ok(gradcheck(square(1), [leaf([0.5, -1.5, 2])]));
    const x = leaf([3]);
    square(1)(x).backward();
    assert.equal(values(x.grad as Tensor), Float64Array.of(6));
  }),
);

test(
  "refuses a gradient that is off by a thousandth, and says where",
  leakFree(() => {
    const { message } = thrown(() => gradcheck(square(1.001), [leaf([0.5, -1.5])]), AutogradError);
    assert.match(message, /output\[0\].*input 0\[0\]/);
    thrown(() => gradcheck(square(0.999), [leaf([0.5, -1.5])]), AutogradError);
    thrown(() => gradcheck(square(-1), [leaf([0.5])]), AutogradError);
  }),
);

test(
  "refuses a gradient that is missing, at the wrong place, or NaN",
  leakFree(() => {
    const define = (backward: (dy: Tensor) => (Tensor | null)[]) => {
      const op = defineOp({
        name: "double",
        infer: ([x]) => x,
        forward: ([x]) => mul(x.detach(), 2),
        backward,
      });
      return (x: Tensor) => op([x]);
    };
    thrown(
      () =>
        gradcheck(
          define(() => [null]),
          [leaf([1, 2])],
        ),
      AutogradError,
    );
    thrown(
      () =>
        gradcheck(
          define((dy) => [mul(dy, tensor([2, 2.1], { dtype: "float64" }))]),
          [leaf([1, 2])],
        ),
      AutogradError,
    );
    thrown(
      () =>
        gradcheck(
          define((dy) => [mul(dy, Number.NaN)]),
          [leaf([1, 2])],
        ),
      AutogradError,
    );
  }),
);

test(
  "checks every input that requires a gradient, and holds the others fixed",
  leakFree(() => {
    const fixed = tensor([3, 4], { dtype: "float64" });
    assert.ok(gradcheck((a, b, c) => mul(add(a, exp(b)), c), [leaf([1, 2]), leaf([0.1, 0.2]), fixed]));
    const wrongSecond = defineOp({
      name: "wrongSecond",
      infer: ([a]) => a,
      forward: ([a, b]) => add(a.detach(), b.detach()),
      backward: (dy) => [dy, mul(dy, 2)],
    });
    const { message } = thrown(
      () => gradcheck((a, b) => wrongSecond([a, b]), [leaf([1]), leaf([2])]),
      AutogradError,
    );
    assert.match(message, /input 1\[0\]/);
  }),
);

test(
  "refuses float32, inputs without a gradient, and unknown options",
  leakFree(() => {
    thrown(() => gradcheck(exp, [ones([2], { requiresGrad: true })]), DTypeError);
    thrown(() => gradcheck(exp, [ones([2], { dtype: "float64" })]), AutogradError);
    thrown(() => gradcheck(exp, [leaf([1])], { tolerance: 1 } as never), ArgumentError);
    thrown(() => gradcheck(exp, leaf([1]) as never), ArgumentError);
    thrown(() => gradcheck(null as never, [leaf([1])]), ArgumentError);
    thrown(() => gradcheck(() => 1 as never, [leaf([1])]), ArgumentError);
  }),
);

test(
  "its own tensors are freed, also when it throws",
  leakFree(() => {
    scope(() => {
      gradcheck((x) => sum(exp(x)), [leaf([1, 2, 3])]);
      try {
        gradcheck(square(2), [leaf([1])]);
      } catch {
        // checked above
      }
    });
  }),
);

test(
  "defineOp: attributes, absent inputs, several saved tensors",
  leakFree(() => {
    /** scale (x + shift)^2, shift optional. */
    const op = defineOp<{ scale: number }>({
      name: "shiftedSquare",
      infer: ([x, shift]) => {
        if (shift && shift.size !== 1) throw new ShapeError("shiftedSquare", "shift is no scalar");
        return { shape: x.shape, dtype: x.dtype };
      },
      forward: ([x, shift], { scale }) => {
        const moved = shift ? add(x.detach(), shift.detach()) : mul(x.detach(), 1);
        return [mul(mul(moved, moved), scale), moved];
      },
      backward: (dy, { extras: [moved], needs, specs, attrs: { scale } }) => {
        assert.equal(specs.map(({ shape }) => [...shape])[0], [2]);
        const dx = mul(dy, mul(moved, 2 * scale));
        return [dx, needs[1] ? dx : null];
      },
    });
    gradcheck((x) => op([x, null], { scale: 3 }), [leaf([1, 2])]);
    gradcheck((x, shift) => op([x, shift], { scale: 0.5 }), [leaf([1, 2]), leaf([0.3])]);
    thrown(() => op([leaf([1, 2]), leaf([1, 2])], { scale: 1 }), ShapeError);
    thrown(() => op([3 as never, null], { scale: 1 }), ArgumentError);
    const plain = op([tensor([1, 2], { dtype: "float64" }), null], { scale: 1 });
    assert.is(plain.requiresGrad, false);
  }),
);

test.run();
