/** Random zeros. The mask is never stored: backward draws it again from the same key. */
import type { Draw, Generator } from "../tensor/random.js";
import { size } from "../tensor/shape.js";
import { requireTensor, type Tensor } from "../tensor/tensor.js";
import { requireBoolean, requireNumber, requireOptions } from "../util/check.js";
import { requireGenerator } from "./create.js";
import { defineOp, launch, requireFloat } from "./define.js";

export interface DropoutOptions {
  /** Default true; false returns the input. */
  training?: boolean;
  generator?: Generator;
}
interface Mask {
  probability: number;
  group: number;
  key: Draw;
}

function attrsOf({ probability, group, key }: Mask): number[] {
  return [probability, group, key.seed, key.stream, key.counter];
}

function dropping(name: string, groupOf: (x: Tensor) => number) {
  const op = defineOp<Mask>({
    name,
    infer: ([x]) => ({ shape: x.shape, dtype: requireFloat(name, x) }),
    forward: ([x], mask, out) => launch("dropout_fwd", [x], [out], attrsOf(mask)),
    backward: (dy, { attrs }) => launch("dropout_fwd", [dy], [dy], attrsOf(attrs)),
  });
  return (x: Tensor, probability: number, options: DropoutOptions = {}): Tensor => {
    requireTensor(name, "input", x);
    requireNumber(name, "probability", probability, 0, 1);
    requireOptions(name, options, ["training", "generator"]);
    const generator = requireGenerator(name, options.generator);
    if (!requireBoolean(name, "training", options.training ?? true) || probability === 0) return x;
    return op([x], {
      probability,
      group: Math.max(1, groupOf(x)),
      key: generator.next(),
    });
  };
}

/** Each element becomes 0 with the given probability p, and is divided by 1 - p otherwise. */
export const dropout = dropping("dropout", () => 1);
/** The same for whole samples (stochastic depth): one draw per entry of the first axis. */
export const dropPath = dropping("dropPath", (x) => size(x.shape.slice(1)));
