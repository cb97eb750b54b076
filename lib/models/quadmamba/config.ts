import { nearest } from "../../util/check.js";
import { ConfigError, show } from "../../util/errors.js";

/** Where paper and released code differ (see docs/architecture.md): the model of the paper, or that of the published weights. */
export type Semantics = "paper" | "released";

export interface QuadMambaConfig {
  /** Channels of the first stage, which double from stage to stage; or of all four. */
  dims: number | [number, number, number, number];
  /** Blocks per stage. */
  depths: [number, number, number, number];
  /** Inner channels of the scan over those of the stage. */
  ssmRatio: number;
  /** State size N of the scan. */
  stateSize: number;
  /** Rank of the step-size projection; "auto" is ceil(channels / 16). */
  dtRank: number | "auto";
  /** Whether the depthwise convolution has a bias. */
  convBias: boolean;
  /** Hidden channels of the MLP over those of the stage. */
  mlpRatio: number;
  inChannels: number;
  /** 0: no classifier; then the four stage maps have norms of their own (`outnorm0` to `outnorm3`). */
  numClasses: number;
  /** Stochastic depth of the last block; it grows linearly from 0 at the first. */
  dropPathRate: number;
  /** Stages (1 to 4) whose blocks scan along the learned quadtree; the others scan in four directions. */
  quadStages: number[];
  semantics: Semantics;
  /** Normalise after each branch instead of before. */
  postNorm: boolean;
}

const DEFAULTS: QuadMambaConfig = {
  dims: 48,
  depths: [2, 2, 2, 2],
  ssmRatio: 1,
  stateSize: 1,
  dtRank: "auto",
  convBias: false,
  mlpRatio: 4,
  inChannels: 3,
  numClasses: 1000,
  dropPathRate: 0,
  quadStages: [1, 2],
  semantics: "paper",
  postNorm: false,
};

export type Variant = "nano" | "lite" | "tiny" | "small" | "base";

/** The published variants, and `nano` for small images. */
export const VARIANTS: Record<Variant, Partial<QuadMambaConfig>> = {
  nano: { dims: 24, depths: [1, 1, 2, 1] },
  lite: { dims: 48, depths: [2, 2, 2, 2] },
  tiny: { dims: 64, depths: [2, 6, 2, 2] },
  small: { dims: 96, depths: [2, 2, 5, 2], ssmRatio: 2 },
  base: { dims: 96, depths: [2, 2, 15, 2], ssmRatio: 2 },
};

/** A whole, checked configuration from a variant's name or from the keys that differ from `lite`. */
export function resolveConfig(
  variantOrConfig: Variant | (Partial<QuadMambaConfig> & { variant?: Variant }),
): QuadMambaConfig {
  const op = "createQuadMamba";
  if (typeof variantOrConfig === "string") return resolveConfig({ variant: variantOrConfig });
  if (variantOrConfig === null || typeof variantOrConfig !== "object" || Array.isArray(variantOrConfig))
    throw new ConfigError(
      op,
      "configuration is not valid",
      "the name of a variant, or an object",
      show(variantOrConfig),
    );
  const { variant, ...given } = variantOrConfig;
  if (variant !== undefined && !Object.hasOwn(VARIANTS, variant)) {
    const hint = typeof variant === "string" ? nearest(variant, Object.keys(VARIANTS)) : undefined;
    throw new ConfigError(
      op,
      `unknown variant${hint ? ` (did you mean ${hint}?)` : ""}`,
      Object.keys(VARIANTS).join(", "),
      show(variant),
    );
  }
  for (const key of Object.keys(given)) {
    if (Object.hasOwn(DEFAULTS, key)) continue;
    const hint = nearest(key, Object.keys(DEFAULTS));
    throw new ConfigError(
      op,
      `unknown key ${key}${hint ? ` (did you mean ${hint}?)` : ""}`,
      Object.keys(DEFAULTS).join(", "),
    );
  }
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const config: QuadMambaConfig = {
    ...DEFAULTS,
    ...(variant ? VARIANTS[variant] : {}),
    ...set,
  };
  check(op, config);
  return config;
}

/** Channels of the four stages. */
export function stageDims({ dims }: QuadMambaConfig): [number, number, number, number] {
  return typeof dims === "number" ? [dims, 2 * dims, 4 * dims, 8 * dims] : dims;
}

function check(op: string, c: QuadMambaConfig): void {
  const rule = (ok: boolean, key: keyof QuadMambaConfig, expected: string): void => {
    if (!ok) throw new ConfigError(op, `${key} is not valid`, expected, show(c[key]));
  };
  const whole = (v: unknown, min: number): v is number =>
    Number.isSafeInteger(v) && (v as number) >= min && (v as number) < 2 ** 20;
  const four = (v: unknown, min: number): boolean =>
    Array.isArray(v) && v.length === 4 && v.every((d) => whole(d, min));
  const flag = (key: "convBias" | "postNorm"): void =>
    rule(typeof c[key] === "boolean", key, "true or false");
  rule(whole(c.dims, 1) || four(c.dims, 1), "dims", "a whole number, or four");
  rule(four(c.depths, 1), "depths", "four whole numbers of at least 1");
  const dims = stageDims(c);
  rule(dims[0] % 2 === 0, "dims", "an even number of channels in the first stage (the stem halves it)");
  rule(
    Number.isFinite(c.ssmRatio) && c.ssmRatio > 0 && dims.every((d) => Number.isInteger(d * c.ssmRatio)),
    "ssmRatio",
    "a number above 0 that gives whole channels",
  );
  rule(whole(c.stateSize, 1), "stateSize", "a whole number of at least 1");
  rule(c.dtRank === "auto" || whole(c.dtRank, 1), "dtRank", '"auto" or a whole number of at least 1');
  rule(
    Number.isFinite(c.mlpRatio) && dims.every((d) => whole(Math.trunc(d * c.mlpRatio), 1)),
    "mlpRatio",
    "a number above 0",
  );
  rule(whole(c.inChannels, 1), "inChannels", "a whole number of at least 1");
  rule(whole(c.numClasses, 0), "numClasses", "a whole number of at least 0");
  rule(
    Number.isFinite(c.dropPathRate) && c.dropPathRate >= 0 && c.dropPathRate < 1,
    "dropPathRate",
    "a number from 0 to below 1",
  );
  rule(
    Array.isArray(c.quadStages) &&
      c.quadStages.every((s) => [1, 2, 3, 4].includes(s)) &&
      new Set(c.quadStages).size === c.quadStages.length,
    "quadStages",
    "a list of stages from 1 to 4",
  );
  for (const stage of c.quadStages)
    rule(
      (dims[stage - 1] * c.ssmRatio) % 4 === 0,
      "quadStages",
      `4 to divide the inner channels of stage ${stage} (the predictor quarters them)`,
    );
  rule(c.semantics === "paper" || c.semantics === "released", "semantics", "paper or released");
  flag("convBias");
  flag("postNorm");
}
