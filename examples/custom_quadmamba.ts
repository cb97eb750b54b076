/**
 * A QuadMamba of one's own shape, its size, and what its quadtree chose for a batch of images.
 * Run: node dist/examples/custom_quadmamba.js
 */
import {
  createQuadMamba,
  crossEntropy,
  manualSeed,
  noGrad,
  profileMacs,
  randn,
  scope,
  tensor,
} from "../lib/index.js";

manualSeed(1);
const model = createQuadMamba({
  dims: 16,
  depths: [1, 2, 1, 1],
  quadStages: [1, 2, 3],
  stateSize: 4,
  numClasses: 5,
  inChannels: 3,
});
const parameters = model.parameters().reduce((sum, t) => sum + t.size, 0);

scope(() => {
  const images = randn([2, 50, 70, 3]); // any size from 8 x 8 up
  const macs = model.withNames(() => profileMacs(() => noGrad(() => model.forward(images))));
  const total = [...macs.values()].reduce((a, b) => a + b, 0);
  console.log(
    `${parameters} parameters, ${(total / 2e6).toFixed(1)} MMACs an image, ${model.quadBlocks.length} quad blocks`,
  );

  const loss = crossEntropy(model.forward(images), tensor([1, 3], { dtype: "int64" }));
  loss.backward();
  const scored = [...model.namedParameters()].filter(
    ([name, t]) => name.includes("score_predictor") && t.grad,
  );
  console.log(
    `loss ${loss.item().toFixed(4)}; the straight-through gradient reached ${scored.length} tensors of the predictors`,
  );

  for (const [stage, map] of model.eval().forwardFeatures(images).entries())
    console.log(`stage ${stage + 1}: [${map.shape}]`);
});
model.dispose();
