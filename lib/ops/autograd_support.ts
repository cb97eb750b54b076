/** Hands the tape the few ops that its walk needs. */
import { provideArithmetic } from "../autograd/backward.js";
import { stridesOf } from "../tensor/shape.js";
import { add } from "./arithmetic.js";
import { fill } from "./create.js";
import { launch } from "./define.js";
import { sumTo } from "./shape_ops.js";

provideArithmetic({
  add,
  sumTo,
  onesLike: (x) => fill(x, 1),
  copy: (x) => launch("strided_read", [x], [x], [0, x.rank, ...stridesOf(x.shape)])[0],
});
