/** The addon's image functions with one wrong argument among right ones: each call must throw an error that carries its kind. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { addon, addonInfo, packageRoot } from "../../lib/native/addon.js";
import type { Report } from "./hostile_child.js";

type Numbers = readonly number[];

export function attackImages(report: Report): void {
  const attempt = (call: () => unknown): unknown => {
    report.calls++;
    try {
      return call();
    } catch (error) {
      return error;
    }
  };
  const refused = (label: string, call: () => unknown): void => {
    const result = attempt(call);
    if (!(result instanceof Error) || typeof (result as { kind?: unknown }).kind !== "string")
      report.failures.push(`${label}: no typed error but ${String(result)}`);
  };
  const gives = (label: string, call: () => unknown, right: (result: unknown) => boolean): void => {
    const result = attempt(call);
    if (!right(result)) report.failures.push(`${label}: ${String(result)}`);
  };

  const noJpegs = ["", "x", "no image at all", "\xff\xd8", "\xff\xd8\xff", "\x89PNG\r\n"];
  for (const bytes of noJpegs.map((text) => Uint8Array.from(Buffer.from(text, "latin1")))) {
    gives(
      `jpegSize of ${bytes}`,
      () => addon.jpegSize(bytes),
      (size) => size === undefined,
    );
    gives(
      `jpegPart of ${bytes}`,
      () => addon.jpegPart(bytes, Float64Array.of(0, 0, 1, 1), new Uint8Array(3)),
      (text) => text === "no JPEG of a known kind",
    );
  }
  if (addonInfo.jpeg) attackJpeg(refused, gives);
  attackResampling(refused, gives);

  for (const path of ["", "missing", ".", "/dev/null", "/dev/zero", "x".repeat(10_000)])
    refused(`mapFile(${path.slice(0, 20)})`, () => addon.mapFile(path));
}

type Refused = (label: string, call: () => unknown) => void;
type Gives = (label: string, call: () => unknown, right: (result: unknown) => boolean) => void;

function attackJpeg(refused: Refused, gives: Gives): void {
  const fixtures = JSON.parse(readFileSync(join(packageRoot(), "test/fixtures/pillow_images.json"), "utf8"));
  for (const name of ["photo.jpg", "progressive.jpg", "full_chroma.jpg", "grey.jpg"]) {
    const file = Uint8Array.from(Buffer.from(fixtures[name].bytes, "base64"));
    const [h, w]: [number, number] = fixtures[name].shape;
    const part = (box: Numbers, bytes: number, from = file): string =>
      addon.jpegPart(from, Float64Array.from(box), new Uint8Array(bytes));
    gives(
      `jpegPart of ${name}`,
      () => part([0, 0, h, w], h * w * 3),
      (text) => text === "",
    );
    const whole = [0, 0, h, w];
    const boxes = [
      [-1, 0, 1, 1],
      [0, -1, 1, 1],
      [0, 0, h + 1, w],
      [0, 0, h, w + 1],
      [1, 0, h, w],
      [0, 1, h, w],
      [h, 0, 1, 1],
      [0, w, 1, 1],
      [0, 0, 0, 1],
      [0, 0, 1, 0],
      [],
      [0, 0, 1],
      [0, 0, 1, 1, 1],
      ...[-1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 63, 1e308, Number.NaN, Infinity, -Infinity].flatMap(
        (number) => whole.map((_, k) => whole.with(k, number)),
      ),
    ];
    // with memory for the box where it has a size, so that it is the box that is refused
    for (const box of boxes)
      for (const bytes of [3, h * w * 3, Math.min(2 ** 16, Math.max(0, Math.ceil(box[2] * box[3] * 3) || 0))])
        refused(`jpegPart of ${name}, ${box}, ${bytes} bytes`, () => part(box, bytes));
    for (const bytes of [0, h * w * 3 - 1, h * w * 3 + 1])
      refused(`jpegPart of ${name}, out of ${bytes} bytes`, () => part(whole, bytes));
    refused(`jpegPart of ${name}, out of another type`, () =>
      addon.jpegPart(file, Float64Array.from(whole), new Float32Array(h * w * 3) as never),
    );
    for (let length = 0; length < file.length; length++)
      gives(
        `jpegPart of ${length} bytes of ${name}`,
        () => part([0, 0, 1, 1], 3, file.subarray(0, length)),
        (text) => typeof text === "string" && text !== "",
      );
  }
}

function attackResampling(refused: Refused, gives: Gives): void {
  interface Taps {
    sizes: Numbers;
    starts: Numbers;
    counts: Numbers;
    /** How many. */
    weights: number;
    image: number;
    out: number;
  }
  // 4 rows of 5 pixels of 3 bytes, to 2 columns or rows, from up to 3 pixels each
  const usual = { starts: [0, 2], counts: [3, 2], weights: 6, image: 60 };
  const kinds: [name: "resampleColumns" | "resampleRows", places: number, right: Taps][] = [
    ["resampleColumns", 5, { ...usual, sizes: [4, 5, 3], out: 24 }],
    ["resampleRows", 4, { ...usual, sizes: [4, 15], out: 30 }],
  ];
  for (const [name, places, right] of kinds) {
    const resample = (wrong: Partial<Taps>): void => {
      const { sizes, starts, counts, weights, image, out } = { ...right, ...wrong };
      addon[name](
        new Uint8Array(image),
        Float64Array.from(sizes),
        Int32Array.from(starts),
        Int32Array.from(counts),
        new Int32Array(weights),
        new Uint8Array(out),
      );
    };
    gives(
      name,
      () => resample({}),
      (result) => result === undefined,
    );
    const wrongs: Partial<Taps>[] = [
      { starts: [0, places - 1] },
      { starts: [0, places] },
      { starts: [0, 2 ** 31 - 1] },
      { starts: [-1, 2] },
      { starts: [0, -(2 ** 31)] },
      { starts: [0] },
      { starts: [0, 2, 2] },
      { starts: [] },
      { starts: [], counts: [] },
      { starts: [], counts: [], weights: 0 },
      { starts: [], counts: [], weights: 0, out: 0 },
      { counts: [4, 2] }, // more than the stride
      { counts: [3, -1] },
      { counts: [3, 2 ** 31 - 1] },
      { counts: [3, -(2 ** 31)] },
      { counts: [] },
      { weights: 0 },
      { weights: 1 },
      { weights: 4 },
      { weights: 5 },
      { image: 0 },
      { image: 59 },
      { image: 61 },
      { out: 0 },
      { out: right.out - 1 },
      { out: right.out + 1 },
      { sizes: [] },
      { sizes: right.sizes.slice(1) },
      { sizes: [...right.sizes, 1] },
      ...[-1, 0, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 63, 1e308, Number.NaN, Infinity].flatMap((number) =>
        right.sizes.map((_, k) => ({ sizes: right.sizes.with(k, number) })),
      ),
      { sizes: right.sizes.map(() => 2 ** 31) },
    ];
    for (const wrong of wrongs) refused(`${name} with ${inspect(wrong)}`, () => resample(wrong));
  }
}
