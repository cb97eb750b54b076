/**
 * Does a learned quadtree find what matters? The same small model is trained on the data set `quadrants` with each kind of
 * partition, and its choices are compared with the quadrants that the digits are in. `frozen` is a learned partition whose
 * predictor keeps its initial weights. What came out is in docs/ablations.md.
 * Run: node dist/examples/quadrants.js [--seeds 3] [--epochs 3] [--dims 12] [--device cpu] [--out results.json] ...
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { epochOrder, loadDataset, type QuadrantsDataset, type QuadrantsSource } from "../lib/data/index.js";
import {
  AdamW,
  clipGradNorm,
  cosineLr,
  createQuadMamba,
  crossEntropy,
  manualSeed,
  memory,
  noGrad,
  type PartitionMode,
  type QuadMamba,
  randGumbel,
  scope,
  setThreads,
  type Tensor,
  tensor,
} from "../lib/index.js";

const { values: given } = parseArgs({
  options: {
    partitions: { type: "string", default: "learned,frozen,random,fixed,none" },
    seeds: { type: "string", default: "3" },
    epochs: { type: "string", default: "3" },
    batch: { type: "string", default: "64" },
    dims: { type: "string", default: "12" },
    depths: { type: "string", default: "1,1,1,1" },
    lr: { type: "string", default: "4e-3" },
    device: { type: "string", default: "cpu" },
    threads: { type: "string" },
    out: { type: "string" },
  },
});
const [seeds, epochs, batch, dims, lr] = (["seeds", "epochs", "batch", "dims", "lr"] as const).map((key) =>
  Number(given[key]),
);
const depths = given.depths.split(",").map(Number) as [number, number, number, number];
const device = given.device === "cuda" ? "cuda" : "cpu";
if (given.threads) setThreads(Number(given.threads));

const { train, test } = (await loadDataset("quadrants")) as QuadrantsSource;
const MEAN = train.pixels.reduce((sum, value) => sum + value / 255, 0) / train.pixels.length;

function images(set: QuadrantsDataset, samples: ArrayLike<number>): Tensor {
  const each = set.height * set.width;
  const pixels = new Float32Array(samples.length * each);
  for (let k = 0; k < samples.length; k++)
    for (let p = 0; p < each; p++)
      pixels[k * each + p] = (set.pixels[samples[k] * each + p] / 255 - MEAN) / 0.25;
  return tensor(pixels, [samples.length, set.height, set.width, 1], { device });
}

function labels(set: QuadrantsDataset, samples: ArrayLike<number>): Tensor {
  return tensor(
    Int32Array.from({ length: samples.length }, (_, k) => set.labels[samples[k]]),
    { device },
  );
}

/** Trains the model, but not its `frozen` parameters. Returns the mean loss of the last epoch. */
function fit(model: QuadMamba, seed: number, frozen: ReadonlySet<Tensor>): number {
  const params = model.parameters().filter((t) => !frozen.has(t));
  const optimizer = new AdamW(params, { lr, weightDecay: 0.05 });
  const perEpoch = Math.floor(train.count / batch);
  const totalSteps = epochs * perEpoch;
  let loss = 0;
  let order: Uint32Array = new Uint32Array(0);
  for (let step = 0; step < totalSteps; step++) {
    const epoch = Math.floor(step / perEpoch);
    const begin = (step % perEpoch) * batch;
    if (begin === 0) order = epochOrder(train.count, seed, epoch);
    const samples = order.subarray(begin, begin + batch);
    optimizer.lr = cosineLr(step, { lr, totalSteps, warmupSteps: Math.ceil(totalSteps / 20) });
    scope(() => {
      const value = crossEntropy(model.forward(images(train, samples)), labels(train, samples));
      value.backward();
      clipGradNorm(params, 5);
      optimizer.step();
      model.zeroGrad();
      if (epoch === epochs - 1) loss += value.item() / perEpoch;
    });
  }
  optimizer.dispose();
  return loss;
}

interface Seen {
  /** Share of test images whose digit is recognised. */
  accuracy: number;
  /** For each quad block, the quadrant that it chose for each image. */
  choices: number[][];
}

const CHUNK = 250;

/** The test images in chunks. */
function* chunks(): Generator<number[]> {
  for (let begin = 0; begin < test.count; begin += CHUNK)
    yield Array.from({ length: Math.min(CHUNK, test.count - begin) }, (_, k) => begin + k);
}

/** Runs the test images through the model; with `force`, every quad block is made to choose the quadrant that it names. */
function look(model: QuadMamba, force?: (sample: number) => number): Seen {
  const choices = model.quadBlocks.map((): number[] => []);
  let correct = 0;
  for (const samples of chunks()) {
    let block = 0;
    const unwatch = model.watchPartitions(({ choice }) => {
      choices[block++].push(...(choice.toArray() as unknown[]).map(Number));
    });
    correct += scope(() => {
      const scores = force && samples.flatMap((k) => [0, 1, 2, 3].map((q) => (q === force(k) ? 1e6 : 0)));
      const noise = scores && model.quadBlocks.map(() => tensor(scores, [samples.length, 4], { device }));
      const options = noise ? { partitionNoise: noise } : {};
      const predicted = noGrad(() => model.forward(images(test, samples), options)).argmax(1);
      return predicted.eq(labels(test, samples).to("int64")).sum().item();
    });
    unwatch();
  }
  return { accuracy: correct / test.count, choices };
}

const mean = (list: ArrayLike<number>): number => Array.from(list).reduce((a, b) => a + b, 0) / list.length;

/**
 * Whether a step of training would, on average over the test images, raise the score of the digit's quadrant above those of the
 * others: for each quad block the mean of that pull, in standard errors. Above 3 training leads to the digit, below -3 away.
 */
function pull(model: QuadMamba): number[] {
  const pulls = model.quadBlocks.map((): number[] => []);
  for (const samples of chunks())
    scope(() => {
      // the gradient of what is added to the scores is the gradient of the scores
      const noise = pulls.map(() => randGumbel([samples.length, 4], { device }).detach());
      for (const t of noise) t.requiresGrad = true;
      crossEntropy(
        model.forward(images(test, samples), { partitionNoise: noise }),
        labels(test, samples),
      ).backward();
      for (const [block, t] of noise.entries())
        for (const [k, row] of (t.grad!.toArray() as number[][]).entries())
          pulls[block].push(mean(row) - row[test.quadrants[samples[k]]]);
      for (const t of noise) t.grad?.dispose();
      model.zeroGrad();
    });
  return pulls.map((list) => {
    const middle = mean(list);
    const deviation = Math.sqrt(mean(list.map((v) => (v - middle) ** 2)));
    return (middle / deviation) * Math.sqrt(list.length);
  });
}

/** Share of images of which one of the blocks chose the digit's quadrant, and what it were if the digits were dealt anew. */
function found(choices: number[][]): { share: number; dealt: number } {
  const frequency = [0, 1, 2, 3].map((q) => mean(test.quadrants.map((quadrant) => (quadrant === q ? 1 : 0))));
  const chosen = Array.from({ length: test.count }, (_, k) => new Set(choices.map((block) => block[k])));
  return {
    share: mean(chosen.map((set, k) => (set.has(test.quadrants[k]) ? 1 : 0))),
    dealt: mean(chosen.map((set) => [...set].reduce((sum, q) => sum + frequency[q], 0))),
  };
}

/** The quadrant with the most light in it: what a look at brightness alone would choose. */
function brightest(set: QuadrantsDataset, sample: number): number {
  const light = [0, 0, 0, 0];
  const { height, width } = set;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      light[2 * Math.floor((2 * y) / height) + Math.floor((2 * x) / width)] +=
        set.pixels[(sample * height + y) * width + x];
  return light.indexOf(Math.max(...light));
}

const percent = (share: number): string => (100 * share).toFixed(1);
const bright = found([Array.from({ length: test.count }, (_, k) => brightest(test, k))]);
console.log(`${train.count} training and ${test.count} test images; shares in %`);
console.log(`the digit is in the brightest quadrant of ${percent(bright.share)}`);

const results: object[] = [];
for (const arm of given.partitions.split(","))
  for (let seed = 0; seed < seeds; seed++) {
    const started = performance.now();
    manualSeed(seed);
    const partition = (arm === "frozen" ? "learned" : arm) as PartitionMode;
    const model = createQuadMamba({ dims, depths, inChannels: 1, numClasses: 10, partition });
    model.to(device);
    const scored = partition === "learned";
    const before = scored ? look(model.eval()).choices.map((list) => found([list]).share) : undefined;
    const predictor = [...model.namedParameters()].filter(([name]) => name.includes("score_predictor"));
    const loss = fit(model.train(), seed, new Set(arm === "frozen" ? predictor.map(([, t]) => t) : []));
    const { accuracy, choices } = look(model.eval());
    const chooses = choices.some((list) => list.length > 0);
    const blocks = chooses ? choices.map((list) => found([list]).share) : undefined;
    const any = chooses ? found(choices) : undefined;
    const forced = scored
      ? {
          digit: look(model, (k) => test.quadrants[k]).accuracy,
          other: look(model, (k) => (test.quadrants[k] + 1 + (k % 3)) % 4).accuracy,
        }
      : undefined;
    const pulls = scored ? pull(model) : undefined;
    const seconds = (performance.now() - started) / 1000;
    results.push({ arm, seed, accuracy, loss, before, blocks, any, forced, pulls, seconds });
    const line = [
      `${arm}, seed ${seed}: accuracy ${percent(accuracy)}, training loss ${loss.toFixed(3)}`,
      before && `digit's quadrant before training ${before.map(percent).join(", ")}`,
      blocks && `after ${blocks.map(percent).join(", ")}`,
      any && `in any block ${percent(any.share)} (dealt anew ${percent(any.dealt)})`,
      pulls && `pull ${pulls.map((t) => t.toFixed(1)).join(", ")}`,
      forced &&
        `accuracy if the digit's quadrant is forced ${percent(forced.digit)}, another ${percent(forced.other)}`,
      `${seconds.toFixed(0)} s`,
    ];
    console.log(line.filter(Boolean).join("; "));
    model.dispose();
    memory.emptyCache(device);
    if (given.out)
      writeFileSync(given.out, `${JSON.stringify({ options: given, bright, results }, null, 1)}\n`);
  }
