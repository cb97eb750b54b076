import { ConfigError, show } from "../../util/errors.js";

/** What a string such as rand-m9-mstd0.5-inc1 asks for. */
export interface RandAugmentPolicy {
  /** m: how strong operations are, from 0 on; 10 is the usual limit. */
  magnitude: number;
  /** n: operations per image, drawn with repetition. */
  layers: number;
  /** p: the probability that a drawn operation is done. */
  probability: number;
  /** mstd: magnitudes are normal with this deviation; Infinity (above 100): uniform from 0 to the magnitude. */
  deviation: number;
  /** mmax: no magnitude is above this. */
  limit: number;
  /** inc: operations change the image more with a larger magnitude, all of them. */
  increasing: boolean;
}

const WHOLE = /^\d+$/;
const DECIMAL = /^(\d+\.?\d*|\.\d+)$/;

/** Each part by its name: how its number is written, and what it sets. */
const PARTS: Record<string, { form: RegExp; set: (value: number) => Partial<RandAugmentPolicy> }> = {
  m: { form: WHOLE, set: (magnitude) => ({ magnitude }) },
  n: { form: WHOLE, set: (layers) => ({ layers }) },
  p: { form: /^(0?\.\d+|[01](\.0*)?)$/, set: (probability) => ({ probability }) },
  mstd: { form: DECIMAL, set: (deviation) => ({ deviation: deviation > 100 ? Infinity : deviation }) },
  mmax: { form: /^0*[1-9]\d*$/, set: (limit) => ({ limit }) },
  inc: { form: /^[01]$/, set: (increasing) => ({ increasing: increasing === 1 }) },
};

/**
 * Reads timm's notation of RandAugment: `rand`, then parts joined by `-`, each a name and a number.
 *
 * @throws {ConfigError} naming the part that is unknown or badly written
 */
export function parseRandAugment(text: string): RandAugmentPolicy {
  const [kind, ...parts] = text.split("-");
  if (kind !== "rand")
    throw new ConfigError("randAugment", "no RandAugment string", "such as rand-m9-mstd0.5-inc1", show(text));
  const policy: RandAugmentPolicy = {
    magnitude: 10,
    layers: 2,
    probability: 0.5,
    deviation: 0,
    limit: 10,
    increasing: false,
  };
  for (const part of parts) {
    const [, name, digits] = /^([a-z]*)(.*)$/s.exec(part)!;
    const known = Object.hasOwn(PARTS, name) ? PARTS[name] : undefined;
    if (!known?.form.test(digits))
      throw new ConfigError(
        "randAugment",
        `${show(text)} has a part that is not understood`,
        "m<whole>, n<whole>, p<0 to 1>, mstd<number>, mmax<whole>, inc<0 or 1>",
        show(part),
      );
    Object.assign(policy, known.set(Number(digits)));
  }
  return policy;
}
