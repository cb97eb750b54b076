/** The loading bench gives figures for each kind of data set. No test looks at how large they are. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dataSpeed, type Rate, rateOf } from "../../lib/bench/data_speed.js";
import { loadDataset } from "../../lib/data/index.js";
import { noiseSet } from "../helpers/image_sets.js";
import { temporaryFolder } from "../helpers/temporary.js";

const bench = suite("bench data");

function isRate(rate: Rate | undefined): void {
  assert.ok(
    rate && rate.low > 0 && rate.low <= rate.median && rate.median <= rate.high,
    JSON.stringify(rate),
  );
}

bench("calls on the way at the same time all count", async () => {
  let done = 0;
  const begin = performance.now();
  const rate = await rateOf(
    async (k) => {
      await new Promise((resolve) => setTimeout(resolve, 1 + (k % 3)));
      done += 7;
      return 7;
    },
    4,
    30,
  );
  const outside = (performance.now() - begin) / 1000;
  assert.ok(done / rate <= outside + 1e-9, `${done} at ${rate} a second in ${outside} s`);
});

bench("images in memory, with the recipe and without", async () => {
  for (const augment of ["imagenet", "none"] as const) {
    const found = await dataSpeed(noiseSet(5, 2, 16, 3), 2, { size: 8, workers: 0, seconds: 0.1, augment });
    isRate(found.loader);
    assert.is(found.sharp, undefined);
  }
});

bench("image files, beside sharp, whose setting is left as it was", async () => {
  const root = temporaryFolder();
  for (const split of ["train", "val"]) {
    mkdirSync(join(root, split, "a"), { recursive: true });
    const create = { width: 20, height: 30, channels: 3, background: "red" } as const;
    await sharp({ create }).toFile(join(root, split, "a/1.jpg"));
  }
  const threads = sharp.concurrency();
  const { train } = await loadDataset(`folder:${root}`);
  const found = await dataSpeed(train, 1, { size: 8, workers: 1, seconds: 0.1, augment: "imagenet" });
  isRate(found.loader);
  isRate(found.sharp);
  assert.is(sharp.concurrency(), threads);
});

bench.run();
