/**
 * A differentiable op of one's own: the hard tanh-like "squash", y = x / (1 + |x|), with its derivative 1 / (1 + |x|)^2.
 * Declared once, it has checks, a tape entry and a place in any model. Run: node dist/examples/custom_op.js
 */
import { abs, add, defineOp, div, gradcheck, mul, type Tensor, tensor } from "../lib/index.js";

const squashOp = defineOp({
  name: "squash",
  infer: ([x]) => ({ shape: x.shape, dtype: x.dtype }),
  forward: ([x]) => div(x, add(abs(x), 1)).detach(),
  saves: { inputs: [0] },
  backward: (dy, { inputs: [x] }) => {
    const denominator = add(abs(x), 1);
    return [div(dy, mul(denominator, denominator))];
  },
});

/** x / (1 + |x|) */
function squash(x: Tensor): Tensor {
  return squashOp([x]);
}

const x = tensor([-2, -0.5, 0.25, 3], { dtype: "float64", requiresGrad: true });
const y = squash(x);
y.sum().backward();
console.log("y     ", y.toArray());
console.log("dy/dx ", x.grad?.toArray());
console.log("agrees with central differences:", gradcheck(squash, [x]));
