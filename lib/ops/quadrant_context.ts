import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { ShapeError, show } from "../util/errors.js";
import { defineOp, launch, requireFloat } from "./define.js";
import { cells, csr, stretched, transposed } from "./resample.js";

/** Half of the channels, from `from` on, as a tensor of their own. */
function halfOf(x: Tensor, from: number): Tensor {
  const [batch, height, width, channels] = x.shape;
  const strides = [height * width * channels, width * channels, channels, 1];
  const out = { ...x, shape: [batch, height, width, channels / 2] };
  return launch("strided_read", [x], [out], [from, 4, ...strides])[0];
}

/** The tables of averaging over quadrants, and of stretching their means to the map, and back. */
function tables({ shape: [, height, width], device }: Tensor, back: boolean) {
  const turn = back ? transposed : (d: ReturnType<typeof cells>) => d;
  const both = (rows: ReturnType<typeof cells>, columns: ReturnType<typeof cells>) => [
    ...csr(turn(rows), device),
    ...csr(turn(columns), device),
  ];
  return {
    means: both(cells(height, 2), cells(width, 2)),
    spread: both(stretched(2, height, "bilinear"), stretched(2, width, "bilinear")),
  };
}

const quadrantContextOp = defineOp({
  name: "quadrantContext",
  infer: ([x]) => {
    if (x.rank !== 4 || x.shape[3] % 2 !== 0 || x.shape[1] < 1 || x.shape[2] < 1)
      throw new ShapeError(
        "quadrantContext",
        "input is not valid",
        "[batch, height, width, channels], not empty, of an even number of channels",
        show(x.shape),
      );
    return { shape: x.shape, dtype: requireFloat("quadrantContext", x) };
  },
  forward: ([x], _, out) => {
    const local = halfOf(x, 0);
    const { means, spread } = tables(x, false);
    const small = { ...local, shape: [x.shape[0], 2, 2, x.shape[3] / 2] };
    const [mean] = launch("resample2d_fwd", [local, ...means], [small]);
    const [context] = launch("resample2d_fwd", [mean, ...spread], [local]);
    return launch("concat_fwd", [halfOf(x, x.shape[3] / 2), context], [out], [3]);
  },
  backward: (dy) => {
    const half = dy.shape[3] / 2;
    const { means, spread } = tables(dy, true);
    const dcontext = halfOf(dy, half);
    const [dmean] = launch(
      "resample2d_fwd",
      [dcontext, ...spread],
      [{ ...dy, shape: [dy.shape[0], 2, 2, half] }],
    );
    const [dlocal] = launch("resample2d_fwd", [dmean, ...means], [dcontext]);
    return launch("concat_fwd", [dlocal, halfOf(dy, 0)], [dy], [3]);
  },
});

/**
 * Context of a token's quadrant (paper Eq. 5-6): [global half, local half averaged over each quadrant and upsampled bilinearly].
 * The first half of the channels is the local one: `concat([slice(x, 3, c / 2), interpolate(adaptiveAvgPool2d(slice(x, 3, 0, c / 2), 2),
 * {size, mode: "bilinear"})], 3)` in one op, whose gradient is put together without zeros in between.
 * @param x [batch, height, width, channels]
 */
export function quadrantContext(x: Tensor): Tensor {
  return quadrantContextOp([requireTensor("quadrantContext", "input", x)]);
}
