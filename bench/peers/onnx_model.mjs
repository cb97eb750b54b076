/** ONNX models of a few nodes, written as the protocol buffers that they are (onnx.proto, IR version 8, opset 17). */
const FLOAT = 1;
const ATTRIBUTE = { float: 1, int: 2, ints: 7 };

function varint(value) {
  const out = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  out.push(value);
  return Buffer.from(out);
}
/** Field of a number, or of bytes, text or another message. */
const number = (field, value) => Buffer.concat([varint(field * 8), varint(value)]);
const bytes = (field, value) => {
  const data = Buffer.from(value);
  return Buffer.concat([varint(field * 8 + 2), varint(data.length), data]);
};
const message = (...fields) => Buffer.concat(fields.flat());

function attribute(name, value) {
  if (Array.isArray(value))
    return message(
      bytes(1, name),
      value.map((v) => number(8, v)),
      number(20, ATTRIBUTE.ints),
    );
  if (Number.isInteger(value)) return message(bytes(1, name), number(3, value), number(20, ATTRIBUTE.int));
  const float = Buffer.alloc(5);
  float[0] = 2 * 8 + 5;
  float.writeFloatLE(value, 1);
  return message(bytes(1, name), float, number(20, ATTRIBUTE.float));
}

/** @param attributes integers, lists of integers, or numbers that are no integers */
export function node(type, inputs, output, attributes = {}) {
  return message(
    inputs.map((name) => bytes(1, name)),
    bytes(2, output),
    bytes(4, type),
    Object.entries(attributes).map(([name, value]) => bytes(5, attribute(name, value))),
  );
}

/** A constant of float32. */
export function constant(name, dims, values) {
  const raw = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return message(
    dims.map((dim) => number(1, dim)),
    number(2, FLOAT),
    bytes(8, name),
    bytes(9, raw),
  );
}

function value(name, dims) {
  const shape = message(dims.map((dim) => bytes(1, number(1, dim))));
  return message(bytes(1, name), bytes(2, bytes(1, message(number(1, FLOAT), bytes(2, shape)))));
}

/** A model from one input `x` of the given dimensions to one output `y`. */
export function model({ nodes, constants = [], x, y }) {
  const graph = message(
    nodes.map((n) => bytes(1, n)),
    bytes(2, "bench"),
    constants.map((c) => bytes(5, c)),
    bytes(11, value("x", x)),
    bytes(12, value("y", y)),
  );
  return message(number(1, 8), bytes(7, graph), bytes(8, message(bytes(1, ""), number(2, 17))));
}
