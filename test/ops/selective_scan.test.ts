/** The selective scan at the lengths that models use, and around every chunk: values and all gradients against plain loops. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Device, grad, gradcheck, selectiveScan, type Tensor } from "../../lib/index.js";
import { expectNormwise, norm, values } from "../helpers/compare.js";
import { on, onEach } from "../helpers/devices.js";
import { roundTo, toTensor } from "../helpers/inputs.js";
import { leakFree } from "../helpers/leaks.js";
import { type NdArray, nd } from "../helpers/nd.js";
import { Random } from "../helpers/random.js";
import { type ScanInputs, type ScanOptions, scanBackward, scanForward } from "../helpers/scan.js";

type Order = "none" | "one" | "sample" | "group" | "sample and group";
interface Config {
  batch: number;
  length: number;
  channels: number;
  groups: number;
  states: number;
  D?: boolean;
  deltaBias?: boolean;
  deltaSoftplus?: boolean;
  order?: Order;
  merge?: boolean;
  /** u is shared by the groups. */
  shared?: boolean;
  /** Step sizes up to 30 and decay rates down to -1e4. */
  extreme?: boolean;
}
type Name = "u" | "delta" | "A" | "B" | "C" | "D" | "deltaBias";
const NAMES: readonly Name[] = ["u", "delta", "A", "B", "C", "D", "deltaBias"];

function makeOrder(kind: Order, { batch, length, groups }: Config, random: Random): NdArray | null {
  const permutations = (n: number) => Array.from({ length: n }, () => random.permutation(length)).flat();
  if (kind === "none") return null;
  if (kind === "one") return nd([length], permutations(1));
  if (kind === "sample") return nd([batch, length], permutations(batch));
  if (kind === "group") return nd([1, groups, length], permutations(groups));
  return nd([batch, groups, length], permutations(batch * groups));
}

/** Inputs that float32 holds exactly, so that both precisions see the same numbers. */
function makeInputs(config: Config): ScanInputs {
  const { batch, length, channels, groups, states, extreme } = config;
  const random = new Random(JSON.stringify(config));
  const make = (shape: number[], low: number, high: number): NdArray =>
    nd(
      shape,
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => Math.fround(random.between(low, high))),
    );
  const [low, high] = config.deltaSoftplus ? [-4, 1] : [0.01, 0.3];
  const inputs: ScanInputs = {
    u: make([batch, length, config.shared ? channels / groups : channels], -1, 1),
    delta: make([batch, length, channels], low, high),
    A: make([channels, states], -2, -0.05),
    B: make([batch, length, groups, states], -1, 1),
    C: make([batch, length, groups, states], -1, 1),
    D: config.D ? make([channels], -1, 1) : null,
    deltaBias: config.deltaBias
      ? make([channels], config.deltaSoftplus ? -0.5 : 0, config.deltaSoftplus ? 0.5 : 0.1)
      : null,
    order: makeOrder(config.order ?? "none", config, random),
  };
  if (extreme) {
    for (let k = 0; k < inputs.delta.data.length; k += 5)
      inputs.delta.data[k] = Math.fround(random.between(10, 30));
    for (let k = 0; k < inputs.A.data.length; k += 3)
      inputs.A.data[k] = -Math.fround(10 ** random.between(1, 4));
  }
  return inputs;
}

type Precision = "float32" | "float64" | "bfloat16";
/** Errors allowed in values and gradients, relative to their norms. */
const LIMITS: Record<Precision, [forward: number, backward: number]> = {
  float32: [1e-6, 1e-5],
  float64: [1e-12, 1e-11],
  bfloat16: [4e-3, 2e-2],
};
const precisionsOf = (device: Device): readonly Precision[] =>
  device === "cuda" ? ["float32", "float64", "bfloat16"] : ["float32", "float64"];

/** The dtype of an input: beside bfloat16 data the parameters are float32. */
function dtypeOf(name: Name, dtype: Precision): Precision {
  const parameter = name === "A" || name === "D" || name === "deltaBias";
  return dtype === "bfloat16" && parameter ? "float32" : dtype;
}
/** The inputs rounded to what the dtype holds. */
function rounded(inputs: ScanInputs, dtype: Precision): ScanInputs {
  const arrays = NAMES.map((name) => {
    const array = inputs[name];
    return [name, array && roundTo(array, dtypeOf(name, dtype))];
  });
  return { ...inputs, ...Object.fromEntries(arrays) };
}

function run(inputs: ScanInputs, options: ScanOptions, dy: NdArray, dtype: Precision, device: Device) {
  const tensors = Object.fromEntries(
    NAMES.flatMap((name) => {
      const array = inputs[name];
      if (!array) return [];
      const t = toTensor(array, dtypeOf(name, dtype), device);
      t.requiresGrad = true;
      return [[name, t]];
    }),
  ) as Record<Name, Tensor>;
  const { u, delta, A, B, C, D = null, deltaBias = null } = tensors;
  const order = inputs.order && toTensor(inputs.order, dtype === "float64" ? "int64" : "int32", device);
  const y = selectiveScan(u, delta, A, B, C, {
    D,
    deltaBias,
    order,
    ...options,
  });
  const present = NAMES.filter((name) => name in tensors);
  const gradients = grad(
    y,
    present.map((name) => tensors[name]),
    { gradient: toTensor(dy, dtype, device) },
  );
  return {
    y,
    gradients: new Map(present.map((name, k) => [name, gradients[k] as Tensor])),
  };
}

function check(device: Device, config: Config): void {
  const exact = makeInputs(config);
  const options = {
    deltaSoftplus: config.deltaSoftplus ?? false,
    merge: config.merge ?? false,
  };
  const what = Object.entries(config)
    .map(([key, value]) => `${key} ${value}`)
    .join(", ");
  for (const dtype of precisionsOf(device)) {
    const [once, backward] = LIMITS[dtype];
    // the sum over groups is kept in the dtype of y: another rounding for every group after the first
    const forward = options.merge && dtype === "bfloat16" ? 2 * once : once;
    const inputs = rounded(exact, dtype);
    const want = scanForward(inputs, options);
    const random = new Random(`${what} dy`);
    const dy = roundTo(
      nd(
        want.shape,
        Float64Array.from(want.data, () => Math.fround(random.between(-1, 1))),
      ),
      dtype,
    );
    const gradients = scanBackward(inputs, options, dy);
    const got = run(inputs, options, dy, dtype, device);
    assert.equal([...got.y.shape], [...want.shape]);
    expectNormwise(`y of ${dtype} on ${device}, ${what}`, values(got.y), want.data, forward);
    for (const [name, g] of got.gradients) {
      assert.equal([...g.shape], [...(inputs[name] as NdArray).shape], `shape of the gradient of ${name}`);
      assert.is(g.dtype, dtypeOf(name, dtype), `dtype of the gradient of ${name}`);
      // the bias sums the gradients of all steps, which may cancel
      const least = name === "deltaBias" ? norm(gradients.delta) : 0;
      const gradient = `gradient of ${name}, ${dtype} on ${device}, ${what}`;
      expectNormwise(gradient, values(g), gradients[name], backward, least);
    }
  }
}

const LENGTHS = [1, 2, 3, 7, 31, 32, 33, 49, 63, 64, 65, 127, 128, 129, 196, 255, 256, 257];
const test = suite("selectiveScan");
const full: Partial<Config> = { D: true, deltaBias: true, deltaSoftplus: true };

for (const length of LENGTHS)
  onEach(
    test,
    `length ${length}: states, groups and options in turn`,
    leakFree((device) => {
      check(device, { batch: 1, length, channels: 1, groups: 1, states: 1 });
      check(device, { batch: 2, length, channels: 3, groups: 1, states: 1, ...full });
      check(device, {
        batch: 1,
        length,
        channels: 4,
        groups: 2,
        states: 4,
        ...full,
        order: "one",
      });
      check(device, {
        batch: 2,
        length,
        channels: 4,
        groups: 2,
        states: 3,
        D: true,
        order: "sample",
      });
      check(device, {
        batch: 1,
        length,
        channels: 8,
        groups: 4,
        states: 16,
        ...full,
        order: "group",
        merge: true,
        shared: true,
      });
      check(device, {
        batch: 2,
        length,
        channels: 4,
        groups: 4,
        states: 17,
        deltaBias: true,
        order: "sample and group",
        merge: true,
      });
      check(device, {
        batch: 1,
        length,
        channels: 6,
        groups: 2,
        states: 1,
        deltaSoftplus: true,
        order: "group",
        merge: true,
        shared: true,
      });
      check(device, {
        batch: 1,
        length,
        channels: 5,
        groups: 1,
        states: 4,
        extreme: true,
      });
      check(device, {
        batch: 1,
        length,
        channels: 4,
        groups: 2,
        states: 16,
        ...full,
        extreme: true,
        order: "one",
      });
    }),
  );

/** The four stages of a 224 x 224 image scan 3136, 784, 196 and 49 tokens. */
for (const [length, channels] of [
  [784, 8],
  [1025, 4],
  [3136, 4],
] as const)
  onEach(
    test,
    `length ${length}`,
    leakFree((device) => {
      check(device, {
        batch: 1,
        length,
        channels,
        groups: 2,
        states: 1,
        ...full,
        order: "group",
        merge: true,
        shared: true,
      });
      check(device, {
        batch: 1,
        length,
        channels,
        groups: 4,
        states: 4,
        ...full,
        order: "sample and group",
        merge: true,
      });
      check(device, { batch: 1, length, channels: 2, groups: 1, states: 16, ...full });
      check(device, {
        batch: 1,
        length,
        channels: 2,
        groups: 2,
        states: 3,
        ...full,
        extreme: true,
      });
    }),
  );

for (const length of [4096, 12544])
  on(
    test,
    "cuda",
    `length ${length}`,
    leakFree(() => {
      check("cuda", {
        batch: 1,
        length,
        channels: 4,
        groups: 2,
        states: 1,
        ...full,
        order: "group",
        merge: true,
        shared: true,
      });
      check("cuda", { batch: 2, length, channels: 2, groups: 1, states: 1, ...full });
      check("cuda", {
        batch: 1,
        length,
        channels: 4,
        groups: 4,
        states: 4,
        ...full,
        order: "sample and group",
      });
      check("cuda", { batch: 1, length, channels: 2, groups: 1, states: 16, ...full });
    }),
  );

onEach(
  test,
  "channels on both sides of a vector, with every number of states",
  leakFree((device) => {
    for (const channels of [1, 7, 8, 15, 16, 17, 31, 33, 65])
      for (const states of [1, 2, 3, 4, 5, 8, 16, 17])
        check(device, { batch: 1, length: 5, channels, groups: 1, states, ...full });
    for (const own of [1, 7, 16, 17, 33])
      for (const groups of [2, 3, 4]) {
        check(device, {
          batch: 2,
          length: 5,
          channels: own * groups,
          groups,
          states: 1,
          ...full,
          merge: true,
          shared: true,
          order: "group",
        });
        check(device, {
          batch: 2,
          length: 5,
          channels: own * groups,
          groups,
          states: 4,
          ...full,
          order: "sample and group",
        });
      }
  }),
);

onEach(
  test,
  "channels around warps and tiles, past a chunk",
  leakFree((device) => {
    for (const channels of [1, 2, 24, 33, 64, 96, 130])
      for (const states of [1, 4, 16]) {
        check(device, { batch: 2, length: 70, channels, groups: 1, states, ...full });
        const groups = channels % 2 === 0 ? 2 : 1;
        check(device, {
          batch: 1,
          length: 70,
          channels,
          groups,
          states,
          ...full,
          order: "sample and group",
          merge: true,
          shared: true,
        });
      }
  }),
);

onEach(
  test,
  "every combination of options",
  leakFree((device) => {
    const orders: Order[] = ["none", "one", "sample", "group", "sample and group"];
    for (const order of orders)
      for (let bits = 0; bits < 32; bits++)
        check(device, {
          batch: 2,
          length: 9,
          channels: 4,
          groups: 2,
          states: 2,
          order,
          D: (bits & 1) !== 0,
          deltaBias: (bits & 2) !== 0,
          deltaSoftplus: (bits & 4) !== 0,
          merge: (bits & 8) !== 0,
          shared: (bits & 16) !== 0,
        });
  }),
);

onEach(
  test,
  "gradcheck of short scans",
  leakFree((device) => {
    const configs: Config[] = [
      { batch: 1, length: 3, channels: 2, groups: 1, states: 2, ...full },
      {
        batch: 2,
        length: 4,
        channels: 2,
        groups: 2,
        states: 1,
        ...full,
        order: "sample and group",
      },
      {
        batch: 1,
        length: 5,
        channels: 4,
        groups: 2,
        states: 2,
        ...full,
        merge: true,
        shared: true,
        order: "group",
      },
      { batch: 1, length: 33, channels: 1, groups: 1, states: 1, D: true },
      {
        batch: 1,
        length: 5,
        channels: 1,
        groups: 1,
        states: 5,
        deltaSoftplus: true,
      },
    ];
    for (const config of configs) {
      const inputs = makeInputs(config);
      const leaves = NAMES.flatMap((name) => {
        const array = inputs[name];
        if (!array) return [];
        const t = toTensor(array, "float64", device);
        t.requiresGrad = true;
        return [t];
      });
      const order = inputs.order && toTensor(inputs.order, "int32", device);
      const { merge, deltaSoftplus } = config;
      gradcheck((u, delta, A, B, C, ...rest) => {
        const D = config.D ? (rest.shift() as Tensor) : null;
        const deltaBias = config.deltaBias ? (rest.shift() as Tensor) : null;
        return selectiveScan(u, delta, A, B, C, {
          D,
          deltaBias,
          order,
          merge: merge ?? false,
          deltaSoftplus: deltaSoftplus ?? false,
        });
      }, leaves);
    }
  }),
);

onEach(
  test,
  "states that decay to nothing leave no NaN in values or gradients",
  leakFree((device) => {
    const config: Config = {
      batch: 1,
      length: 130,
      channels: 4,
      groups: 1,
      states: 4,
    };
    const inputs = makeInputs(config);
    inputs.A.data.fill(-1e4);
    inputs.delta.data.fill(30);
    const dy = nd(inputs.delta.shape, new Float64Array(inputs.delta.data.length).fill(1));
    for (const dtype of precisionsOf(device)) {
      const { y, gradients } = run(inputs, {}, dy, dtype, device);
      for (const t of [y, ...gradients.values()]) assert.ok(values(t).every(Number.isFinite));
    }
  }),
);

onEach(
  test,
  "gradients that are not asked for are not given, the others do not change",
  leakFree((device) => {
    const config: Config = {
      batch: 1,
      length: 40,
      channels: 4,
      groups: 2,
      states: 3,
      ...full,
    };
    const inputs = makeInputs(config);
    const dy = nd(
      inputs.delta.shape,
      Float64Array.from(inputs.delta.data, (_, k) => Math.sin(k)),
    );
    const all = run(inputs, { deltaSoftplus: true }, dy, "float64", device).gradients;
    const make = (name: Name) => toTensor(inputs[name] as NdArray, "float64", device);
    const A = make("A");
    A.requiresGrad = true;
    const y = selectiveScan(make("u"), make("delta"), A, make("B"), make("C"), {
      D: make("D"),
      deltaBias: make("deltaBias"),
      deltaSoftplus: true,
    });
    const [gradient] = grad(y, [A], { gradient: toTensor(dy, "float64", device) });
    assert.equal(values(gradient as Tensor), values(all.get("A") as Tensor));
  }),
);

test.run();
