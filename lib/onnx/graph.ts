/** An ONNX graph under construction. Values are known by their names; field numbers are those of onnx.proto. */
import { Message } from "./protobuf.js";

/** The name of a value: an input, a constant, or what a node computes. */
export type Value = string;

export type Attribute = number | readonly number[] | Subgraph;
/** A size, or the name of one that is open until the graph runs. */
export type Dimension = number | string;

/** What a control-flow node runs: the graph, its inputs and its outputs, each with the shape that it has there. */
export interface Subgraph {
  graph: Graph;
  inputs: readonly TypedValue[];
  outputs: readonly TypedValue[];
}
export interface TypedValue {
  name: Value;
  shape: readonly Dimension[];
}

/** Numbers of the element types. */
export const FLOAT = 1;
const INT64 = 7;
export const DOUBLE = 11;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_GRAPH = 5;
const ATTRIBUTE_INTS = 7;

/** The first format of model files that has all that is used here. */
const IR_VERSION = 8;

export class Graph {
  readonly #nodes: Message[] = [];
  readonly #constants = new Map<string, Message>();
  #made = 0;

  /** A node of an operator; the value that it computes. An attribute is a whole number, a list of them, or a graph. */
  node(op: string, inputs: readonly Value[], attributes: Record<string, Attribute> = {}): Value {
    return this.nodes(op, inputs, 1, attributes)[0];
  }

  /** The same of an operator that computes several values. */
  nodes(
    op: string,
    inputs: readonly Value[],
    outputs: number,
    attributes: Record<string, Attribute> = {},
  ): Value[] {
    const name = `${op}_${this.#made++}`;
    const values = Array.from({ length: outputs }, (_, k) => (k === 0 ? name : `${name}.${k}`));
    this.rename(op, inputs, values, attributes);
    return values;
  }

  /** A node whose results have given names. */
  rename(
    op: string,
    inputs: readonly Value[],
    outputs: readonly Value[],
    attributes: Record<string, Attribute> = {},
  ): void {
    const node = new Message();
    for (const input of inputs) node.string(1, input);
    for (const output of outputs) node.string(2, output);
    node.string(3, outputs[0]).string(4, op);
    for (const [name, value] of Object.entries(attributes)) node.message(5, attributeProto(name, value));
    this.#nodes.push(node);
  }

  /** A constant that is made when its name is first asked for. */
  constant(
    name: string,
    make: () => { data: Float32Array | Float64Array | BigInt64Array; shape: readonly number[] },
  ): Value {
    if (!this.#constants.has(name)) {
      const { data, shape } = make();
      const tensor = new Message();
      for (const size of shape) tensor.int(1, size);
      const type = data instanceof Float32Array ? FLOAT : data instanceof Float64Array ? DOUBLE : INT64;
      tensor.int(2, type).string(8, name);
      this.#constants.set(
        name,
        tensor.bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
      );
    }
    return name;
  }

  /** A list of whole numbers, as shapes, axes and indices are given. */
  ints(...values: number[]): Value {
    return this.constant(`ints ${values.join(" ")}`, () => ({
      data: BigInt64Array.from(values, BigInt),
      shape: [values.length],
    }));
  }

  /** A model file around the graph, in pieces. Inputs and outputs are float32. */
  model(
    io: { inputs: readonly TypedValue[]; outputs: readonly TypedValue[] },
    opset: number,
    producer: { name: string; version: string },
    metadata: Record<string, string>,
  ): readonly Uint8Array[] {
    const model = new Message().int(1, IR_VERSION).string(2, producer.name).string(3, producer.version);
    model.message(7, this.proto(producer.name, io)).message(8, new Message().string(1, "").int(2, opset));
    for (const [key, value] of Object.entries(metadata))
      model.message(14, new Message().string(1, key).string(2, value));
    return model.parts;
  }

  /** GraphProto. */
  proto(
    name: string,
    { inputs, outputs }: { inputs: readonly TypedValue[]; outputs: readonly TypedValue[] },
  ): Message {
    const graph = new Message();
    for (const node of this.#nodes) graph.message(1, node);
    graph.string(2, name);
    for (const tensor of this.#constants.values()) graph.message(5, tensor);
    for (const value of inputs) graph.message(11, valueInfo(value));
    for (const value of outputs) graph.message(12, valueInfo(value));
    return graph;
  }
}

function attributeProto(name: string, value: Attribute): Message {
  const attribute = new Message().string(1, name);
  if (typeof value === "number") return attribute.int(3, value).int(20, ATTRIBUTE_INT);
  if ("graph" in value) return attribute.message(6, value.graph.proto(name, value)).int(20, ATTRIBUTE_GRAPH);
  for (const item of value) attribute.int(8, item);
  return attribute.int(20, ATTRIBUTE_INTS);
}

/** ValueInfoProto of a float32 tensor. */
function valueInfo({ name, shape }: TypedValue): Message {
  const dimensions = new Message();
  for (const size of shape)
    dimensions.message(
      1,
      typeof size === "number" ? new Message().int(1, size) : new Message().string(2, size),
    );
  const tensor = new Message().int(1, FLOAT).message(2, dimensions);
  return new Message().string(1, name).message(2, new Message().message(1, tensor));
}
