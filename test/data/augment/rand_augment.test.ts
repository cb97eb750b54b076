/** RandAugment: its notation, what is drawn how often, and images of one channel. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { colorJitter } from "../../../lib/data/augment/color_jitter.js";
import { brightness, color, contrast } from "../../../lib/data/augment/colour.js";
import { Draws } from "../../../lib/data/augment/draws.js";
import { augmentImage, augmentSchema } from "../../../lib/data/augment/index.js";
import { drawMagnitude, INCREASING, PLAIN, randAugment } from "../../../lib/data/augment/rand_augment.js";
import { parseRandAugment } from "../../../lib/data/augment/rand_augment_policy.js";
import { openPixels } from "../../../lib/data/decode.js";
import type { Image } from "../../../lib/data/image.js";
import { ArgumentError, ConfigError } from "../../../lib/index.js";

const random = suite("RandAugment");

const drawsOf = (sample: number): Draws => new Draws({ seed: 7, epoch: 2, sample }, "randAugment");
const gradient = (channels: number): Image => ({
  data: Uint8Array.from({ length: 24 * 20 * channels }, (_, k) => (k * 37) % 251),
  height: 24,
  width: 20,
  channels,
});

random("timm's notation", () => {
  assert.equal(parseRandAugment("rand-m9-mstd0.5-inc1"), {
    magnitude: 9,
    layers: 2,
    probability: 0.5,
    deviation: 0.5,
    limit: 10,
    increasing: true,
  });
  assert.equal(parseRandAugment("rand-n3-p1.0-mstd101-mmax30-m15"), {
    magnitude: 15,
    layers: 3,
    probability: 1,
    deviation: Infinity,
    limit: 30,
    increasing: false,
  });
  assert.equal(parseRandAugment("rand"), { ...parseRandAugment("rand-m10-n2"), magnitude: 10 });
});

const WRONG = [
  "",
  "m9",
  "augmix-m3",
  "rand-",
  "rand-x3",
  "rand-m",
  "rand-m9.5",
  "rand-m-1",
  "rand-p1.5",
  "rand-inc2",
  "rand-mstd",
  "rand-mstd1e3",
  "rand-mmax0",
  "rand-tweights",
  "rand-w0",
  "rand-constructor1",
  "rand m9",
  "rand-m9\n",
];
random("what is unknown or badly written is refused, also by the configuration", () => {
  for (const text of WRONG) {
    assert.throws(
      () => parseRandAugment(text),
      (error: Error) => error instanceof ConfigError,
      JSON.stringify(text),
    );
    assert.not(augmentSchema.safeParse({ randAugment: text }).success, JSON.stringify(text));
  }
  assert.throws(() => parseRandAugment("rand-m9-x3"), /"x3"/);
  assert.ok(augmentSchema.safeParse({ randAugment: "rand-m9-mstd0.5-inc1" }).success);
});

random("the operations of both lists", () => {
  assert.is(Object.keys(PLAIN).length, 15);
  assert.is(Object.keys(INCREASING).length, 15);
});

random("magnitudes: fixed, normal and uniform, within 0 and the limit", () => {
  const moments = (text: string) => {
    let [sum, squares] = [0, 0];
    for (let sample = 0; sample < 8000; sample++) {
      const value = drawMagnitude(parseRandAugment(text), drawsOf(sample));
      sum += value;
      squares += value ** 2;
    }
    return [sum / 8000, Math.sqrt(Math.max(0, squares / 8000 - (sum / 8000) ** 2))];
  };
  const near = (text: string, mean: number, deviation: number): void => {
    const got = moments(text);
    assert.ok(Math.abs(got[0] - mean) < 0.05 && Math.abs(got[1] - deviation) < 0.05, `${text}: ${got}`);
  };
  near("rand-m9", 9, 0);
  near("rand-m5-mstd0.5", 5, 0.5);
  near("rand-m8-mstd101", 4, 8 / Math.sqrt(12));
  near("rand-m20", 10, 0);
  near("rand-m20-mmax30", 20, 0);
  // Half of a normal distribution is cut off at 10: the mean is below by deviation / sqrt(2 pi).
  near("rand-m10-mstd1", 10 - 1 / Math.sqrt(2 * Math.PI), Math.sqrt(1 / 2 - 1 / (2 * Math.PI)));
});

random("each operation is drawn as often as the others, and done with its probability", () => {
  const image = gradient(3);
  const fill = [1, 2, 3];
  const policy = parseRandAugment("rand-m9-n1-inc1");
  const counts = new Map<string, number>();
  for (let sample = 0; sample < 3000; sample++) {
    const changed = randAugment(image, policy, "bicubic", fill, drawsOf(sample));
    const result = Buffer.from(changed.data).toString("latin1");
    counts.set(result, (counts.get(result) ?? 0) + 1);
  }
  const same = counts.get(Buffer.from(image.data).toString("latin1")) as number;
  const resultOf = (name: string, sign: number): number => {
    const changed = INCREASING[name](image, 0.9, sign, { filter: "bicubic", fill });
    return counts.get(Buffer.from(changed.data).toString("latin1")) ?? 0;
  };
  assert.ok(same > 1400, `${same}`);
  for (const name of Object.keys(INCREASING)) {
    const [plus, minus] = [resultOf(name, 1), resultOf(name, -1)];
    const unsigned = /Auto|Equal|Invert|Poster|Solar/.test(name);
    const expected = unsigned ? 100 : 50;
    for (const count of [plus, minus]) assert.ok(Math.abs(count - expected) < 40, `${name}: ${count}`);
  }
});

random("probability 0: the image itself; the same result in any order; the source is left alone", () => {
  for (const channels of [1, 3]) {
    const image = gradient(channels);
    const before = image.data.slice();
    assert.is(randAugment(image, parseRandAugment("rand-p0"), "random", [0], drawsOf(0)), image);
    const spec = augmentSchema.parse({ randAugment: "rand-m9-n4-p1-mstd0.5-inc1", interpolation: "random" });
    const of = (sample: number) => augmentImage(openPixels(image), 24, spec, { seed: 1, epoch: 0, sample });
    const forwards = Array.from({ length: 40 }, (_, sample) => of(sample));
    const backwards = Array.from({ length: 40 }, (_, k) => of(39 - k)).reverse();
    assert.equal(forwards, backwards);
    assert.equal(image.data, before);
    for (const { data, height, width } of forwards)
      assert.equal([data.length, height, width], [before.length, 24, 20]);
  }
});

random("the mean colour fills what comes from outside", () => {
  const flat: Image = { data: new Uint8Array(300).fill(10), height: 10, width: 10, channels: 3 };
  const { data } = INCREASING.TranslateXRel(flat, 1, 1, { filter: "bicubic", fill: [1, 2, 3] });
  for (let y = 0; y < 10; y++)
    assert.equal([...data.subarray(y * 30 + 9, y * 30 + 18)], [10, 10, 10, 10, 10, 10, 1, 2, 3]);
});

random("colour jitter: factors within the strength, every order", () => {
  const grey: Image = { data: Uint8Array.of(100), height: 1, width: 1, channels: 1 };
  let [low, high] = [255, 0];
  for (let sample = 0; sample < 2000; sample++) {
    const [value] = colorJitter(grey, 0.4, drawsOf(sample)).data;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  // Contrast leaves a single pixel alone (its mean is itself), saturation has no meaning for one channel.
  assert.is(low, brightness(grey, 0.6).data[0]);
  assert.ok(high >= 138 && high <= 140, `${high}`);
  assert.equal(colorJitter(gradient(3), 0, drawsOf(0)), gradient(3));
});

random("colour jitter: each change once, in the order and with the factors that are drawn", () => {
  const orders = new Set<string>();
  for (let sample = 0; sample < 60; sample++) {
    const draws = drawsOf(sample);
    const left = [brightness, contrast, color];
    let expected = gradient(3);
    const order: string[] = [];
    for (const count of [3, 2, 1]) {
      const [change] = left.splice(Math.floor(draws.uniform() * count), 1);
      expected = change(expected, 0.6 + 0.8 * draws.uniform());
      order.push(change.name);
    }
    orders.add(`${order}`);
    assert.equal(colorJitter(gradient(3), 0.4, drawsOf(sample)), expected, `${sample}: ${order}`);
  }
  assert.is(orders.size, 6);
});

random("two channels have no colours", () => {
  for (const choice of [{ colorJitter: 0.1 }, { randAugment: "rand" }])
    assert.throws(
      () =>
        augmentImage(openPixels(gradient(2)), 24, augmentSchema.parse(choice), {
          seed: 1,
          epoch: 0,
          sample: 0,
        }),
      (error: Error) => error instanceof ArgumentError,
    );
});

random.run();
