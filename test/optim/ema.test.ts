/** The moving average of a module's weights. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, type DType, Ema, nn, type Tensor, tensor } from "../../lib/index.js";
import { expectCloseValues, values } from "../helpers/compare.js";
import { onEach } from "../helpers/devices.js";
import { leakFree, thrown } from "../helpers/leaks.js";

const ema = suite("Ema");
const DECAY = 0.75;
// more than a chunk of every device, with a rest, and no element at all
const SIZES = [1, 33000, 0, 7];

/** Tensors of numbers that a function gives by tensor and element. */
class Weights extends nn.Module {
  readonly list: Tensor[];
  constructor(value: (k: number, i: number) => number) {
    super();
    this.list = SIZES.map((size, k) =>
      nn.parameter(tensor(Float32Array.from({ length: size }, (_, i) => value(k, i)))),
    );
  }
  forward(): void {}
}

for (const dtype of ["float32", "float64"] as DType[])
  onEach(
    ema,
    `${dtype}: moves towards the weights by 1 - decay, unless the gate is shut`,
    (device) =>
      void leakFree(() => {
        const model = new Weights((k, i) => k + Math.sin(i)).to(dtype).to(device);
        const average = new Weights((k, i) => Math.cos(i + k)).to(dtype).to(device);
        const means = average.list.map(values);
        const running = new Ema(model, average, { decay: DECAY });
        for (const [gate, moved] of [
          [undefined, 1],
          [2.5, 2],
          [Number.NaN, 2],
          [Infinity, 2],
        ] as const) {
          const t = gate === undefined ? null : tensor(gate, { device });
          running.step({ gate: t });
          t?.dispose();
          average.list.forEach((mean, k) => {
            const x = values(model.list[k]);
            const want = means[k].map((old, i) => x[i] + DECAY ** moved * (old - x[i]));
            const rtol = dtype === "float32" ? 3e-7 : 1e-15;
            expectCloseValues(`gate ${gate}, tensor ${k}`, values(mean), want, { atol: 4 * rtol });
          });
        }
        model.dispose();
        average.dispose();
      })(),
  );

ema("an average of another shape, dtype or make is refused", () => {
  const model = new Weights(() => 1);
  const wide = new Weights(() => 1).to("float64");
  const error = thrown(() => new Ema(model, wide), ConfigError);
  assert.match(error.message, /list\.0.*float32.*float64/s);
  const other = nn.parameter(tensor([1, 2, 3]));
  class Another extends nn.Module {
    readonly other = other;
    forward(): void {}
  }
  assert.match(thrown(() => new Ema(model, new Another()), ConfigError).message, /list\.0.*nothing/s);
  for (const module of [model, wide]) module.dispose();
  other.dispose();
});

ema.run();
