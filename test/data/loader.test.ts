/** Batches: the same bits whatever the workers, and clear errors. */
import { Worker } from "node:worker_threads";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { augmentSchema } from "../../lib/data/augment/spec.js";
import {
  type BatchData,
  type ImageSet,
  Loader,
  type LoaderOptions,
  type Preparation,
  preparationFor,
  type TrainingBatch,
} from "../../lib/data/index.js";
import { ArgumentError, DisposedError, IndexError, LoaderError } from "../../lib/index.js";
import { noiseSet } from "../helpers/image_sets.js";
import { rejects } from "../helpers/rejects.js";

const loading = suite("loader");
const set = noiseSet(24, 3, 12, 3);
const prepare = preparationFor(set, { size: 16, fit: "resize" });
const training: TrainingBatch = {
  spec: augmentSchema.parse({ flip: 0.5, shift: 2, erase: 0.5, mixup: 0.8, cutmix: 1 }),
  ...{ seed: 3, epoch: 1, batch: 4, smoothing: 0.1 },
};

async function withLoader<T>(
  images: ImageSet,
  how: Preparation,
  options: Partial<LoaderOptions>,
  use: (loader: Loader) => Promise<T>,
): Promise<T> {
  const loader = new Loader(images, how, { classes: 3, ...options });
  try {
    return await use(loader);
  } finally {
    await loader.dispose();
  }
}

const bits = ({ pixels, labels, targets, shape }: BatchData) => ({
  pixels: [...pixels],
  labels: [...labels],
  targets: targets && [...targets],
  shape,
});

loading("a batch has the images and labels of its samples, in their order", async () => {
  await withLoader(set, prepare, {}, async (loader) => {
    const batch = await loader.batch([5, 0, 5]);
    assert.equal(batch.shape, [3, 16, 16, 3]);
    assert.equal([...batch.labels], [2, 0, 2]);
    assert.is(batch.targets, undefined);
    const image = (k: number) => [...batch.pixels.subarray(k * 768, (k + 1) * 768)];
    assert.equal(image(0), image(2));
    assert.not.equal(image(0), image(1));
    assert.equal(image(1), [...(await loader.batch([0])).pixels]);
  });
});

loading("the same bits with any number of workers, any prefetch and any order", async () => {
  const batches = [[1, 2, 3, 4, 5, 6, 7], [20], [8, 3, 9, 1]];
  const expected = await withLoader(set, prepare, {}, async (loader) => {
    const found = [];
    for (const samples of batches) found.push(bits(await loader.batch(samples, training)));
    return found;
  });
  assert.is(expected[0].targets?.length, 21);
  for (const [workers, prefetch] of [
    [0, 3],
    [1, 1],
    [3, 2],
  ])
    await withLoader(set, prepare, { workers, prefetch }, async (loader) => {
      const backwards = [2, 1, 0].map((k) => loader.batch(batches[k], training));
      const found = (await Promise.all(backwards)).map(bits).reverse();
      assert.equal(found, expected, `${workers} workers, prefetch ${prefetch}`);
    });
});

loading("another epoch, another seed and another batch give other images", async () => {
  await withLoader(set, prepare, {}, async (loader) => {
    const samples = [0, 1, 2, 3, 4, 5, 6, 7];
    const first = bits(await loader.batch(samples, training));
    for (const other of [{ epoch: 2 }, { seed: 4 }, { batch: 5 }])
      assert.not.equal(bits(await loader.batch(samples, { ...training, ...other })), first);
  });
});

loading("an augmented image depends on its sample and the epoch, not on its place in the batch", async () => {
  await withLoader(set, prepare, {}, async (loader) => {
    const spec = augmentSchema.parse({ flip: 0.5, shift: 2 });
    const found = new Set<string>();
    for (let epoch = 0; epoch < 6; epoch++) {
      const t: TrainingBatch = { ...training, spec, epoch };
      const batch = await loader.batch([5, 0, 5], t);
      const image = (k: number) => [...batch.pixels.subarray(k * 768, (k + 1) * 768)];
      assert.equal(image(0), image(2), `epoch ${epoch}`);
      assert.equal(image(0), [...(await loader.batch([5], t)).pixels], `epoch ${epoch}`);
      found.add(`${image(0)}`);
    }
    assert.ok(found.size > 1, "the same in all epochs");
  });
});

loading("memory that was given back is used again, and only then", async () => {
  await withLoader(set, prepare, { workers: 1 }, async (loader) => {
    const first = await loader.batch([0, 1]);
    const second = await loader.batch([2, 3]);
    assert.is.not(first.pixels.buffer, second.pixels.buffer);
    const expected = [...(await loader.batch([7])).pixels];
    loader.release(first);
    const third = await loader.batch([7]);
    assert.is(third.pixels.buffer, first.pixels.buffer);
    assert.equal([...third.pixels], expected);
  });
});

loading("what does not fit is refused by name", async () => {
  const refused = (how: Partial<Preparation>, message: RegExp) =>
    assert.throws(
      () => new Loader(set, { ...prepare, ...how }, { classes: 3 }),
      (error: Error) => error instanceof ArgumentError && message.test(error.message),
    );
  refused({ fit: "pad", size: 8 }, /do not fit the square/);
  refused({ mean: [0.5] }, /mean does not fit/);
  refused({ size: 0 }, /size/);
  await withLoader(set, prepare, {}, async (loader) => {
    await rejects(loader.batch([0, 24]), IndexError, /no such sample; expected 0 to 23, got 24/);
    await rejects(loader.batch([-1]), IndexError, /no such sample/);
  });
});

loading("after dispose, and for batches on their way, there is an error", async () => {
  for (const workers of [0, 2]) {
    const loader = new Loader(set, prepare, { classes: 3, workers });
    const pending = workers > 0 ? rejects(loader.batch([0, 1, 2]), DisposedError, /disposed/) : undefined;
    await loader.dispose();
    await pending;
    await rejects(loader.batch([0]), DisposedError, /disposed/);
  }
});

loading("a worker that dies ends its batches and those to come with an error that says so", async () => {
  const workers = new Set<Worker>();
  const { postMessage } = Worker.prototype;
  Worker.prototype.postMessage = function (...message) {
    workers.add(this);
    return postMessage.apply(this, message);
  };
  try {
    await withLoader(set, prepare, { workers: 2 }, async (loader) => {
      const pending = rejects(
        loader.batch([0, 1, 2, 3]),
        LoaderError,
        /a worker of the loader died: exit code/,
      );
      await [...workers][0].terminate();
      await pending;
      await rejects(loader.batch([0]), LoaderError, /died/);
    });
  } finally {
    Worker.prototype.postMessage = postMessage;
  }
});

loading.run();
