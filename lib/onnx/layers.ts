/** The layers of a QuadMamba as ONNX operators. Maps are [batch, height, width, channels] or [batch, tokens, channels]. */
import type { QuadMamba } from "../models/quadmamba/model.js";
import { DTypeError } from "../util/errors.js";
import { DOUBLE, FLOAT, Graph, type Value } from "./graph.js";

/** An array with a shape, row-major. */
export interface Table {
  data: Float32Array | Float64Array;
  shape: readonly number[];
}

/** A graph that has a model's parameters as constants, under the names that they have in its state dict. */
export class ModelGraph extends Graph {
  readonly #state: ReturnType<QuadMamba["stateDict"]>;
  #double = false;

  constructor(model: QuadMamba) {
    super();
    this.#state = model.stateDict();
  }

  has(name: string): boolean {
    return this.#state.has(name);
  }

  shapeOf(name: string): readonly number[] {
    return this.#table(name).shape;
  }

  /** A parameter, as it is or changed on the way into the file. */
  parameter(name: string, change: (table: Table) => Table = (table) => table): Value {
    return this.table(name, () => change(this.#table(name)));
  }

  /** One number. */
  float(value: number): Value {
    return this.table(`float ${value}`, () => ({ data: Float64Array.of(value), shape: [] }));
  }

  /** A constant of floats, in the precision that is computed in at this place. */
  table(name: string, make: () => Table): Value {
    return this.constant(this.#double ? `${name} (float64)` : name, () => {
      const { data, shape } = make();
      return { data: this.#double ? Float64Array.from(data) : Float32Array.from(data), shape };
    });
  }

  /** Whether constants are float64 at present. */
  get double(): boolean {
    return this.#double;
  }

  /** Has the nodes that `fn` adds compute in float64. */
  inDouble(x: Value, fn: (x: Value) => Value): Value {
    this.#double = true;
    try {
      return fn(this.node("Cast", [x], { to: DOUBLE }));
    } finally {
      this.#double = false;
    }
  }

  #table(name: string): Table {
    const t = this.#state.get(name);
    if (t?.dtype !== "float32")
      throw new DTypeError("exportOnnx", `${name} is not exported`, "float32", t?.dtype ?? "nothing");
    return { data: t.toTypedArray() as Float32Array, shape: t.shape };
  }
}

/** The last two axes exchanged: [.., a, b] -> [.., b, a]. */
export function transposed({ data, shape }: Table): Table {
  const [rows, columns] = shape.slice(-2);
  const result = new Float32Array(data.length);
  for (let k = 0; k < data.length; k++) {
    const [matrix, row, column] = [
      Math.floor(k / (rows * columns)),
      Math.floor(k / columns) % rows,
      k % columns,
    ];
    result[(matrix * columns + column) * rows + row] = data[k];
  }
  return { data: result, shape: [...shape.slice(0, -2), columns, rows] };
}

/** x weight^T + bias. ONNX multiplies from the right, so the weight is stored [in, out]. */
export function linear(g: ModelGraph, x: Value, name: string): Value {
  const product = g.node("MatMul", [x, g.parameter(`${name}.weight`, transposed)]);
  return g.has(`${name}.bias`) ? g.node("Add", [product, g.parameter(`${name}.bias`)]) : product;
}

/** Over the last axis; epsilon is ONNX's default, 1e-5. */
export function layerNorm(g: ModelGraph, x: Value, name: string): Value {
  return g.node("LayerNormalization", [x, g.parameter(`${name}.weight`), g.parameter(`${name}.bias`)]);
}

/** x (1 + erf(x / sqrt 2)) / 2. onnxruntime has erf of float32 only; the rest keeps its precision. */
export function gelu(g: ModelGraph, x: Value): Value {
  const scaled = g.node("Mul", [x, g.float(Math.SQRT1_2)]);
  const erf = g.double
    ? g.node("Cast", [g.node("Erf", [g.node("Cast", [scaled], { to: FLOAT })])], { to: DOUBLE })
    : g.node("Erf", [scaled]);
  return g.node("Mul", [g.node("Mul", [x, g.float(0.5)]), g.node("Add", [erf, g.float(1)])]);
}

export function silu(g: ModelGraph, x: Value): Value {
  return g.node("Mul", [x, g.node("Sigmoid", [x])]);
}

/** A 3x3 convolution with padding 1. @param x and the result [batch, channels, height, width] */
export function conv3x3(
  g: ModelGraph,
  x: Value,
  name: string,
  { stride = 1, groups = 1 }: { stride?: number; groups?: number } = {},
): Value {
  const inputs = [x, g.parameter(`${name}.weight`)];
  if (g.has(`${name}.bias`)) inputs.push(g.parameter(`${name}.bias`));
  return g.node("Conv", inputs, {
    kernel_shape: [3, 3],
    pads: [1, 1, 1, 1],
    strides: [stride, stride],
    group: groups,
  });
}

export function channelsFirst(g: Graph, x: Value): Value {
  return g.node("Transpose", [x], { perm: [0, 3, 1, 2] });
}

export function channelsLast(g: Graph, x: Value): Value {
  return g.node("Transpose", [x], { perm: [0, 2, 3, 1] });
}

/** To a shape whose first size is the batch's, whatever that is. */
export function reshape(g: Graph, x: Value, ...sizes: number[]): Value {
  return g.node("Reshape", [x, g.ints(0, ...sizes)]); // 0: as it is
}

/** The sum over an axis, which goes. */
export function sum(g: Graph, x: Value, axis: number): Value {
  return g.node("ReduceSum", [x, g.ints(axis)], { keepdims: 0 });
}
