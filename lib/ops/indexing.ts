/** Ops that pick or add entries by index. Indices are int32 or int64 tensors; one out of range is an {@link IndexError}. */
import { requireAxis } from "../tensor/shape.js";
import { requireTensor, type Tensor, type TensorSpec } from "../tensor/tensor.js";
import { DTypeError, ShapeError, show } from "../util/errors.js";
import { fill } from "./create.js";
import { defineOp, launch, requireSameDType } from "./define.js";

interface Along {
  axis: number;
}

function requireIndex(op: string, index: Tensor): void {
  if (index.dtype !== "int32" && index.dtype !== "int64")
    throw new DTypeError(op, "index must be whole numbers", "int32 or int64", index.dtype);
}

const indexSelectOp = defineOp<Along>({
  name: "indexSelect",
  infer: ([x, index], { axis }) => {
    requireIndex("indexSelect", index);
    if (index.rank !== 1)
      throw new ShapeError("indexSelect", "index is not a list", "[n]", show(index.shape));
    return { shape: x.shape.with(axis, index.shape[0]), dtype: x.dtype };
  },
  forward: ([x, index], { axis }, out) => launch("index_select_fwd", [x, index], [out], [axis]),
  saves: { inputs: [1] },
  backward: (dy, { inputs: [, index], specs: [x], attrs: { axis } }) => [
    launch("index_add_fwd", [dy, index], [x], [axis])[0],
    null,
  ],
});
/** Entries index[0], index[1], ... along an axis; index [n]. */
export function indexSelect(x: Tensor, axis: number, index: Tensor): Tensor {
  requireTensor("indexSelect", "input", x);
  requireTensor("indexSelect", "index", index);
  return indexSelectOp([x, index], {
    axis: requireAxis("indexSelect", axis, x.rank),
  });
}

const gatherOp = defineOp<Along>({
  name: "gather",
  infer: ([x, index], { axis }) => {
    requireIndex("gather", index);
    requireInside("gather", index, x, axis);
    return { shape: index.shape, dtype: x.dtype };
  },
  forward: ([x, index], { axis }, out) => launch("gather_fwd", [x, index], [out], [axis]),
  saves: { inputs: [1] },
  backward: (dy, { inputs: [, index], specs: [x], attrs: { axis } }) => [
    scatterAdd(zerosOf(x), axis, index, dy),
    null,
  ],
});
/** out[i][j][k] = x[index[i][j][k]][j][k] for axis 0, and so on: index has the rank of x, and no more entries off the axis. */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  requireTensor("gather", "input", x);
  requireTensor("gather", "index", index);
  return gatherOp([x, index], { axis: requireAxis("gather", axis, x.rank) });
}

const scatterAddOp = defineOp<Along>({
  name: "scatterAdd",
  infer: ([x, index, source], { axis }) => {
    requireIndex("scatterAdd", index);
    requireInside("scatterAdd", index, x, axis);
    if (show(index.shape) !== show(source.shape))
      throw new ShapeError("scatterAdd", "index and source differ", show(index.shape), show(source.shape));
    return { shape: x.shape, dtype: requireSameDType("scatterAdd", x, source) };
  },
  forward: ([x, index, source], { axis }, out) =>
    launch("scatter_add_fwd", [x, index, source], [out], [axis]),
  saves: { inputs: [1] },
  backward: (dy, { inputs: [, index], needs, attrs: { axis } }) => [
    dy,
    null,
    needs[2] ? gather(dy, axis, index) : null,
  ],
});
/** x with source[i][j][k] added at x[index[i][j][k]][j][k] for axis 0, and so on; equal indices add up, in order. */
export function scatterAdd(x: Tensor, axis: number, index: Tensor, source: Tensor): Tensor {
  for (const [name, t] of Object.entries({ input: x, index, source })) requireTensor("scatterAdd", name, t);
  return scatterAddOp([x, index, source], {
    axis: requireAxis("scatterAdd", axis, x.rank),
  });
}

function requireInside(op: string, index: Tensor, x: Tensor, axis: number): void {
  if (index.rank !== x.rank || index.shape.some((dim, k) => k !== axis && dim > x.shape[k]))
    throw new ShapeError(
      op,
      "index does not lie within the tensor",
      `at most ${show(x.shape)} off axis ${axis}`,
      show(index.shape),
    );
}

function zerosOf(spec: TensorSpec): Tensor {
  return fill(spec, 0);
}
