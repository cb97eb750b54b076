/**
 * Average pooling and interpolation are one thing: every output row is a weighted sum of input rows, every output column of
 * input columns. The weights are small sparse tables; the gradient is the same op with the tables transposed.
 */

import { requirePair, requireShape } from "../tensor/shape.js";
import { type Device, requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireOneOf, requireOptions } from "../util/check.js";
import { ShapeError, show } from "../util/errors.js";
import { type Constants, constants } from "./constants.js";
import { defineOp, launch, requireFloat } from "./define.js";

/** For each output position, the input positions it is made of. */
type Taps = readonly (readonly { from: number; weight: number }[])[];
/** The taps of one direction, and what they are a function of: tables of one key are the same. */
export interface Direction {
  key: string;
  /** Positions of the output and of the input. */
  out: number;
  size: number;
  taps: () => Taps;
}
interface Tables {
  rows: Direction;
  columns: Direction;
}

/** Offsets, positions and weights of one direction, as the kernel takes them. */
export function csr({ key, taps }: Direction, device: Device): Tensor[] {
  return constants(`resample ${key}`, device, (): Constants => {
    const lists = taps();
    const offsets = new Int32Array(lists.length + 1);
    lists.forEach((list, k) => {
      offsets[k + 1] = offsets[k] + list.length;
    });
    const flat = lists.flat();
    return [offsets, Int32Array.from(flat, (tap) => tap.from), Float64Array.from(flat, (tap) => tap.weight)];
  });
}

export function transposed({ key, out, size, taps }: Direction): Direction {
  return {
    key: `${key} transposed`,
    out: size,
    size: out,
    taps: () => {
      const result: { from: number; weight: number }[][] = Array.from({ length: size }, () => []);
      taps().forEach((list, to) => {
        for (const { from, weight } of list) result[from].push({ from: to, weight });
      });
      return result;
    },
  };
}

/** @param name the public op, for its errors */
function resampler(name: string): (x: Tensor, tables: Tables) => Tensor {
  const op = defineOp<Tables>({
    name,
    infer: ([x], { rows, columns }) => ({
      shape: requireShape(name, [x.shape[0], rows.out, columns.out, x.shape[3]]),
      dtype: requireFloat(name, x),
    }),
    forward: ([x], { rows, columns }, out) =>
      launch("resample2d_fwd", [x, ...csr(rows, x.device), ...csr(columns, x.device)], [out]),
    backward: (dy, { specs: [x], attrs: { rows, columns } }) => {
      const tables = [...csr(transposed(rows), x.device), ...csr(transposed(columns), x.device)];
      return launch("resample2d_fwd", [dy, ...tables], [x]);
    },
  });
  return (x, tables) => op([x], tables);
}

function requireImages(op: string, x: Tensor): void {
  requireTensor(op, "input", x);
  if (x.rank !== 4)
    throw new ShapeError(
      op,
      "input is no batch of images",
      "[batch, height, width, channels]",
      show(x.shape),
    );
}

export interface PoolOptions {
  /** Window size in pixels; a number for both directions, or [rows, columns]. */
  kernel: number | [number, number];
  /** Default: the kernel. */
  stride?: number | [number, number];
  /** Pixels added on every side, at most half of the kernel: zeros that count (avgPool), or that never win (maxPool). */
  padding?: number | [number, number];
}

/** Options of a pooling op, checked, and the output's height and width. */
export function poolGeometry(op: string, x: Tensor, options: PoolOptions) {
  requireImages(op, x);
  requireOptions(op, options ?? null, ["kernel", "stride", "padding"]);
  const kernel = requirePair(op, "kernel", options.kernel, 1);
  const stride = requirePair(op, "stride", options.stride ?? kernel, 1);
  const padding = requirePair(op, "padding", options.padding ?? 0, 0);
  const out = [0, 1].map((k) => Math.floor((x.shape[k + 1] + 2 * padding[k] - kernel[k]) / stride[k]) + 1);
  if (padding.some((p, k) => 2 * p > kernel[k]) || out.some((n) => n < 1))
    throw new ShapeError(
      op,
      "kernel and padding do not fit the image",
      "padding <= kernel / 2, kernel <= image + 2 padding",
      show(x.shape),
    );
  return { kernel, stride, padding, out: out as [number, number] };
}

const avgPoolOp = resampler("avgPool");
/** Mean of each window; padding counts as zeros. x [batch, height, width, channels]. */
export function avgPool(x: Tensor, options: PoolOptions): Tensor {
  const { kernel, stride, padding, out } = poolGeometry("avgPool", x, options);
  const direction = (k: 0 | 1): Direction => ({
    key: `average ${x.shape[k + 1]} ${kernel[k]} ${stride[k]} ${padding[k]}`,
    out: out[k],
    size: x.shape[k + 1],
    taps: () =>
      Array.from({ length: out[k] }, (_, i) => {
        const start = i * stride[k] - padding[k];
        const from = Math.max(0, start);
        const to = Math.min(x.shape[k + 1], start + kernel[k]);
        return Array.from({ length: Math.max(0, to - from) }, (_, j) => ({
          from: from + j,
          weight: 1 / kernel[k],
        }));
      }),
  });
  return avgPoolOp(x, { rows: direction(0), columns: direction(1) });
}

/** Means over `out` cells of n positions; cell i covers floor(i n / out) to ceil((i + 1) n / out). */
export function cells(n: number, out: number): Direction {
  return {
    key: `cells ${n} ${out}`,
    out,
    size: n,
    taps: () =>
      Array.from({ length: out }, (_, i) => {
        const from = Math.floor((i * n) / out);
        const count = Math.ceil(((i + 1) * n) / out) - from;
        return Array.from({ length: count }, (_, j) => ({ from: from + j, weight: 1 / count }));
      }),
  };
}

const adaptiveAvgPoolOp = resampler("adaptiveAvgPool2d");
/** Mean over the cells of a grid of the given size; cell i covers floor(i n / out) to ceil((i + 1) n / out). */
export function adaptiveAvgPool2d(x: Tensor, size: number | [number, number]): Tensor {
  const op = "adaptiveAvgPool2d";
  requireImages(op, x);
  const out = requireSize(op, size);
  requireNonEmpty(op, x);
  const direction = (k: 0 | 1) => cells(x.shape[k + 1], out[k]);
  return adaptiveAvgPoolOp(x, { rows: direction(0), columns: direction(1) });
}

/** The largest height or width of a result: its tables are JavaScript arrays. */
const MAX_SIDE = 2 ** 20;

function requireSize(op: string, size: unknown): [number, number] {
  const out = requirePair(op, "size", size, 1);
  if (Math.max(...out) > MAX_SIDE)
    throw new ShapeError(op, "size is too large", `at most ${MAX_SIDE}`, show(size));
  return out;
}

function requireNonEmpty(op: string, x: Tensor): void {
  if (x.shape[1] === 0 || x.shape[2] === 0)
    throw new ShapeError(op, "the images are empty", "height and width of at least 1", show(x.shape));
}

export interface InterpolateOptions {
  /** Target [height, width], or one number for both. */
  size: number | [number, number];
  mode?: "nearest" | "bilinear";
}
/** n positions stretched or shrunk to `out`. */
export function stretched(n: number, out: number, mode: "nearest" | "bilinear"): Direction {
  const tapsOf = (i: number): { from: number; weight: number }[] => {
    if (mode === "nearest") return [{ from: Math.min(n - 1, Math.floor((i * n) / out)), weight: 1 }];
    const source = Math.max(0, ((i + 0.5) * n) / out - 0.5);
    const from = Math.min(n - 1, Math.floor(source));
    const weight = source - from;
    if (weight === 0 || from === n - 1) return [{ from, weight: 1 }];
    return [
      { from, weight: 1 - weight },
      { from: from + 1, weight },
    ];
  };
  return {
    key: `${mode} ${n} ${out}`,
    out,
    size: n,
    taps: () => Array.from({ length: out }, (_, i) => tapsOf(i)),
  };
}

const interpolateOp = resampler("interpolate");
/**
 * Images in another size. `nearest` (default): source floor(i n / out). `bilinear`: between pixel centres, source
 * (i + 1/2) n / out - 1/2, clamped at the border (align_corners false).
 */
export function interpolate(x: Tensor, options: InterpolateOptions): Tensor {
  const op = "interpolate";
  requireImages(op, x);
  requireOptions(op, options ?? null, ["size", "mode"]);
  const out = requireSize(op, options.size);
  const mode = requireOneOf(op, "mode", options.mode ?? "nearest", ["nearest", "bilinear"]);
  requireNonEmpty(op, x);
  const direction = (k: 0 | 1) => stretched(x.shape[k + 1], out[k], mode);
  return interpolateOp(x, { rows: direction(0), columns: direction(1) });
}
