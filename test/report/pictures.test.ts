/** Windows are drawn where the tables say, and influence is where it comes from. */
import sharp from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createQuadMamba, manualSeed, mul, type PartitionSeen, tensor } from "../../lib/index.js";
import { quadPartition } from "../../lib/models/quadmamba/partition.js";
import { areaOf, effectiveReceptiveField, fieldOf, withinRadius } from "../../lib/report/erf.js";
import { colourOf } from "../../lib/report/colours.js";
import { partitionMap } from "../../lib/report/partition_map.js";
import { partitionPictures } from "../../lib/report/partition_pictures.js";

const pictures = suite("pictures");
const black = { data: new Uint8Array(32 * 32), height: 32, width: 32, channels: 1 };

function seen(shift: [number, number], scores: number[], choice: number): PartitionSeen {
  return {
    stage: 1,
    block: 0,
    height: 8,
    width: 8,
    shift,
    semantics: "paper",
    scores: tensor(scores, [1, 8, 8, 1]),
    choice: tensor(BigInt64Array.of(BigInt(choice)), [1]),
    divided: [
      tensor(
        [0, 1, 2, 3].map((quadrant) => (quadrant === choice ? 1 : 0)),
        [1, 4],
      ),
    ],
  };
}

pictures("windows follow the tables, and scores go back to their tokens", () => {
  const shift: [number, number] = [1, 1];
  const map = partitionMap(
    seen(
      shift,
      Array.from({ length: 64 }, (_, k) => k),
      2,
    ),
    0,
  );
  const [{ window: quadrant }] = quadPartition(8, 8, shift, { grid: 2, levels: 2 }, "paper");
  map.windows.forEach((window, token) => assert.is(window >= 4, quadrant[token] === 2));
  assert.is(new Set(map.windows).size, 3 + 4);
  assert.is(map.scores[0], 9); // token (0, 0) stood at (1, 1)
  assert.is(map.scores[63], 0);
});

for (const [shift, edges] of [
  [
    [0, 0],
    [128, 256],
  ],
  [
    [1, 1],
    [96, 224],
  ],
] as [[number, number], [number, number]][])
  pictures(`the chosen quadrant is framed in orange, shift ${shift}`, async () => {
    const scores = new Array<number>(64).fill(0);
    const [block] = await partitionPictures(black, [partitionMap(seen(shift, scores, 3), 0)]);
    assert.is(block.name, "stage1-block0");
    const { data, info } = await sharp(block.png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    // The right panel begins at 8 + 256 + 8, below a label of 22 pixels; a token is 32 pixels.
    const orange = (x: number, y: number): boolean => {
      const at = 3 * ((22 + y) * info.width + 272 + x);
      return data[at] > 200 && data[at + 1] > 100 && data[at + 1] < 180 && data[at + 2] < 90;
    };
    const [begin, end] = edges;
    for (const along of [begin + 20, end - 20]) {
      assert.ok(orange(begin, along), `left edge at ${along}`);
      assert.ok(orange(along, begin), `top edge at ${along}`);
      assert.ok(orange(Math.min(end, 255), along), `right edge at ${along}`);
      assert.ok(orange(begin + 64, along), `between fine windows at ${along}`);
    }
    assert.not.ok(orange(begin - 64, 40));
    assert.not.ok(orange(40, begin - 64));
  });

pictures("colours rise in lightness", () => {
  const luma = Array.from({ length: 11 }, (_, k) => colourOf(k / 10)).map(
    ([r, g, b]) => 0.3 * r + 0.59 * g + 0.11 * b,
  );
  for (let k = 1; k < luma.length; k++) assert.ok(luma[k] > luma[k - 1]);
});

const batch = (side: number) => ({
  pixels: Float32Array.from({ length: side * side * 2 }, (_, k) => Math.sin(k)),
  shape: [1, side, side, 2] as [number, number, number, number],
  labels: new Int32Array(1),
});

pictures("the field of a pixelwise function is a point", async () => {
  const field = await fieldOf((x) => mul(x, x), [batch(9)], "cpu");
  assert.equal(field.centre, [4, 4]);
  assert.is(field.shares[4 * 9 + 4], 1);
  assert.is(withinRadius(field, 0), 1);
  assert.is(areaOf(field, 1), 1 / 81);
});

pictures(
  "the field of a model is a distribution over all pixels, repeatable, and not that of a normalised map",
  async () => {
    manualSeed(3);
    const model = createQuadMamba({ dims: 8, depths: [1, 1, 1, 1], inChannels: 2, numClasses: 3 });
    const field = await effectiveReceptiveField(model, [batch(64)], "cpu");
    assert.equal(field.centre, [32, 32]);
    assert.ok(Math.abs(field.shares.reduce((a, b) => a + b, 0) - 1) < 1e-9);
    assert.ok(withinRadius(field, 16) < withinRadius(field, 32) && withinRadius(field, 100) > 0.999999);
    assert.ok(areaOf(field, 0.5) < 0.5);
    const again = await effectiveReceptiveField(model, [batch(64)], "cpu");
    assert.equal(again.shares, field.shares);
    assert.ok(model.training);
    model.dispose();
  },
);

pictures.run();
