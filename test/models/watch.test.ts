/** Watching the quad blocks' choices leaves no trace on the model; what is shown is compared with the goldens in golden.test.ts. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  ArgumentError,
  createQuadMamba,
  manualSeed,
  noGrad,
  type PartitionSeen,
  randn,
} from "../../lib/index.js";
import { leakFree, thrown } from "../helpers/leaks.js";

const watching = suite("watchPartitions");

watching(
  "every quad block is shown once a forward, and logits keep their bits",
  leakFree(() => {
    manualSeed(1);
    const model = createQuadMamba({ dims: 8, depths: [2, 1, 1, 1], numClasses: 3, inChannels: 1 }).eval();
    const images = randn([2, 36, 52, 1]); // stage 1: 9 x 13
    const run = (): number[] => noGrad(() => model.forward(images)).toArray() as number[];
    const before = run();
    const shown: Omit<PartitionSeen, "scores" | "choice" | "divided">[] = [];
    const unwatch = model.watchPartitions(({ scores, choice, divided, ...seen }) => {
      assert.equal(scores.shape, [2, seen.height, seen.width, 1]);
      assert.equal([choice.shape, choice.dtype], [[2], "int64"]);
      assert.equal(
        divided.map((t) => t.argmax(1).toArray()),
        [choice.toArray()],
      );
      shown.push(seen);
    });
    assert.equal(run(), before);
    const semantics = "paper";
    assert.equal(shown, [
      { stage: 1, block: 0, height: 12, width: 16, shift: [0, 0], semantics },
      { stage: 1, block: 1, height: 12, width: 16, shift: [1, 1], semantics },
      { stage: 2, block: 0, height: 8, width: 8, shift: [0, 0], semantics },
    ]);
    unwatch();
    run();
    assert.is(shown.length, 3);
    model.dispose();
  }),
);

watching("two watchers see the same and end on their own, and a watcher must be a function", () => {
  const model = createQuadMamba({ dims: 8, depths: [1, 1, 1, 1], numClasses: 3 }).eval();
  const counts = [0, 0];
  const ends = counts.map((_, k) => model.watchPartitions(() => void counts[k]++));
  const images = randn([1, 32, 32, 3]);
  model.forward(images).dispose();
  ends[0]();
  model.forward(images).dispose();
  assert.equal(counts, [2, 4]);
  thrown(() => model.watchPartitions(3 as never), ArgumentError);
  model.dispose();
});

watching.run();
