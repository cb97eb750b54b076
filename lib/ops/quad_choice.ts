/**
 * The straight-through gradient of the quadtree's choice, without masks and copies. Arranging tokens by a one-hot choice M and
 * putting the results back are permutations, and a scan that reads by index needs neither: both ops below are the identity on
 * their tokens. What they add is the gradient for M that the masked form x_seq = M fine(x) + (1 - M) coarse(x) would have:
 * what the loss would change by if a pixel moved from its coarse to its fine place (native/cpu/quad_gradient.cpp).
 */
import { alias, requireTensor, type Tensor } from "../tensor/tensor.js";
import { ArgumentError, DTypeError, ShapeError, show } from "../util/errors.js";
import { defineOp, launch, requireFloat, requireParameters } from "./define.js";

/** Where each pixel stands, and in which order the scan reads. All int32. */
export interface QuadPlaces {
  /** Sequence position -> token, [batch, tokens]. */
  order: Tensor;
  /** Token -> sequence position if its quadrant is read finely, [tokens]. */
  fine: Tensor;
  /** Token -> sequence position if it is read coarsely, [tokens]. */
  coarse: Tensor;
  /** Token -> quadrant, [tokens]. */
  quadrant: Tensor;
}

/** Whether dM pairs the op's input with its gradient (arranging), or its gradient with its input (restoring). */
function quadOp(name: string, arranging: boolean): (x: Tensor, choice: Tensor, places: QuadPlaces) => Tensor {
  const op = defineOp({
    name,
    infer: ([x, choice, order, fine, coarse, quadrant]) => {
      const dtype = requireFloat(name, x);
      requireParameters(name, x, choice);
      if (x.rank !== 3 || choice.rank !== 2 || choice.shape[0] !== x.shape[0])
        throw new ShapeError(
          name,
          "tokens and choice do not fit",
          "x [batch, tokens, channels], choice [batch, quadrants]",
          `${show(x.shape)} and ${show(choice.shape)}`,
        );
      for (const t of [order, fine, coarse, quadrant])
        if (t.dtype !== "int32") throw new DTypeError(name, "a table is not int32", "int32", t.dtype);
      const tokens = show([x.shape[1]]);
      if (
        show(order.shape) !== show(x.shape.slice(0, 2)) ||
        [fine, coarse, quadrant].some((t) => show(t.shape) !== tokens)
      )
        throw new ShapeError(
          name,
          "places do not fit the tokens",
          `order ${show(x.shape.slice(0, 2))}, tables ${tokens}`,
          show(order.shape),
        );
      return { shape: x.shape, dtype };
    },
    forward: ([x]) => alias(x, name),
    saves: { inputs: [0, 2, 3, 4, 5] },
    backward: (dy, { inputs: [x, , ...places], specs: [, choice], needs }) => [
      dy,
      needs[1]
        ? launch("quad_gradient", [arranging ? x : dy, arranging ? dy : x, ...places], [choice])[0]
        : null,
      ...new Array<null>(4).fill(null),
    ],
  });
  return (x, choice, places) => {
    requireTensor(name, "input", x);
    requireTensor(name, "choice", choice);
    if (places === null || typeof places !== "object")
      throw new ArgumentError(name, "places are not valid", "{order, fine, coarse, quadrant}", show(places));
    const { order, fine, coarse, quadrant } = places;
    for (const [what, t] of Object.entries({ order, fine, coarse, quadrant })) requireTensor(name, what, t);
    return op([x, choice, order, fine, coarse, quadrant]);
  };
}

/**
 * x [batch, tokens, channels] unchanged, on its way into a scan by `places.order`. The choice [batch, quadrants] (one-hot)
 * gets the gradient of arranging: sum_{p in q} x_p . (g_seq[fine p] - g_seq[coarse p]), with g_seq what comes back here.
 */
export const quadArrange = quadOp("quadArrange", true);
/** y [batch, tokens, channels] unchanged, on its way out; the choice gets sum_{p in q} gy_p . (y_seq[fine p] - y_seq[coarse p]). */
export const quadRestore = quadOp("quadRestore", false);
