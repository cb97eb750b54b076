/** Parameters to the unit and multiply-accumulates as published. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  createQuadMamba,
  noGrad,
  profileMacs,
  type QuadMambaConfig,
  scope,
  type Variant,
  zeros,
} from "../../lib/index.js";

const counts = suite("counts");

function parameters(config: Parameters<typeof createQuadMamba>[0]): number {
  const model = createQuadMamba(config);
  const total = model.parameters().reduce((sum, t) => sum + t.size, 0);
  model.dispose();
  return total;
}

function gigaMacs(config: Parameters<typeof createQuadMamba>[0]): number {
  return scope(() => {
    const model = createQuadMamba(config).eval();
    const images = zeros([1, 224, 224, 3]);
    const byModule = model.withNames(() => profileMacs(() => noGrad(() => model.forward(images))));
    model.dispose();
    return [...byModule.values()].reduce((a, b) => a + b, 0) / 1e9;
  });
}

const PUBLISHED: [Variant, number, string][] = [
  ["lite", 5_470_200, "0.8206"],
  ["tiny", 10_322_648, "2.0709"],
  ["small", 31_252_176, "5.5180"],
  ["base", 50_694_096, "9.3760"],
];
for (const [variant, params, macs] of PUBLISHED) {
  counts(`${variant}: ${params} parameters, ${macs} GMACs`, () => {
    assert.is(parameters(variant), params);
    assert.is(gigaMacs(variant).toFixed(4), macs);
    assert.is(gigaMacs({ variant, semantics: "released" }).toFixed(4), macs);
  });
}

counts("nano with one input channel and ten classes: 856544 parameters", () => {
  assert.is(parameters({ variant: "nano", inChannels: 1, numClasses: 10 }), 856_544);
});

const ABLATIONS: [string, Partial<QuadMambaConfig> & { variant?: Variant }, number][] = [
  ["lite without quad blocks", { variant: "lite", quadStages: [] }, 5_440_168],
  ["lite, quad blocks in stage 1", { variant: "lite", quadStages: [1] }, 5_445_956],
  ["lite, quad blocks in stages 1-3", { variant: "lite", quadStages: [1, 2, 3] }, 5_569_372],
  ["small, quad blocks in stages 1-4", { variant: "small", quadStages: [1, 2, 3, 4] }, 42_714_014],
  ["96 channels, state size 16", { dims: 96, depths: [2, 2, 8, 2], ssmRatio: 2, stateSize: 16 }, 38_847_312],
  ["lite in fixed windows", { variant: "lite", quadStages: [], fixedWindows: [14, 0, 0, 0] }, 5_440_168],
  ["lite without a predictor", { variant: "lite", partition: "none" }, 5_431_528],
  ["lite, coarse windows of a quarter", { variant: "lite", coarseGrid: 4 }, 5_470_200],
  ["lite, three levels", { variant: "lite", levels: 3, topK: 2 }, 5_470_200],
  ["small as a backbone with output norms", { variant: "small", numClasses: 0 }, 30_484_520],
];
for (const [name, config, expected] of ABLATIONS) {
  counts(`${name}: ${expected} parameters`, () => {
    assert.is(parameters(config), expected);
  });
}

counts(
  "maps that do not halve twice are padded before anything looks at them: 0.8480 GMACs in stages 1-3",
  () => {
    assert.is(gigaMacs({ variant: "lite", quadStages: [1, 2, 3] }).toFixed(4), "0.8480");
  },
);

counts.run();
