/** Tensors as text: all elements of small ones, the edges of large ones. */
import type { NestedArray, Tensor } from "./tensor.js";

const EDGE = 3;
const FULL = 200;

export function format(t: Tensor): string {
  const elide = t.size > FULL;
  const number = (v: number | boolean): string =>
    typeof v === "boolean" || Number.isInteger(v) ? String(v) : Number(v.toPrecision(5)).toString();
  const walk = (v: NestedArray, indent: string): string => {
    if (!Array.isArray(v)) return number(v);
    const shown = elide && v.length > 2 * EDGE ? [...v.slice(0, EDGE), null, ...v.slice(-EDGE)] : v;
    const items = shown.map((item) => (item === null ? "..." : walk(item, `${indent} `)));
    return `[${items.join(Array.isArray(v[0]) ? `,\n${indent} ` : ", ")}]`;
  };
  return walk(t.toArray(), "");
}
