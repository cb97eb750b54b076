import { nearest } from "../../util/check.js";
import { ConfigError, show } from "../../util/errors.js";
import type { ShiftDirections } from "./partition.js";

/** Where paper and released code differ (see docs/architecture.md): the model of the paper, or that of the published weights. */
export type Semantics = "paper" | "released";

/**
 * How a quad block picks the windows that it reads finely: by learned scores; uniformly at random, in evaluation too; always
 * the first ones (top left); or no windows at all: the map is read row by row, forward and back.
 */
export type PartitionMode = "learned" | "random" | "fixed" | "none";

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
  /** Other modes than `learned` have no score predictor. */
  partition: PartitionMode;
  /** Coarse windows on a side of the map; a fine window is a quadrant of a coarse one. The paper compares 1, 2 and 4. */
  coarseGrid: 1 | 2 | 4;
  /** Levels of the quadtree: coarse and fine windows; with 3 also quadrants of the fine ones. */
  levels: 2 | 3;
  /** How many windows of a level are divided into those of the next. */
  topK: number;
  /** Shift of the windows in every second block of a quad stage: none, always down and to the right, or four in turn. */
  shiftDirections: ShiftDirections;
  /** Side, in tokens, of fixed windows that the plain blocks of all stages (or of each of the four) read one by one; 0: none. */
  fixedWindows: number | [number, number, number, number];
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
  partition: "learned",
  coarseGrid: 2,
  levels: 2,
  topK: 1,
  shiftDirections: 4,
  fixedWindows: 0,
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

/** Sides of the fixed windows of the four stages. */
export function stageWindows({ fixedWindows }: QuadMambaConfig): [number, number, number, number] {
  return typeof fixedWindows === "number"
    ? [fixedWindows, fixedWindows, fixedWindows, fixedWindows]
    : fixedWindows;
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
  for (const stage of c.partition === "learned" ? c.quadStages : [])
    rule(
      (dims[stage - 1] * c.ssmRatio) % 4 === 0,
      "quadStages",
      `4 to divide the inner channels of stage ${stage} (the predictor quarters them)`,
    );
  rule(c.semantics === "paper" || c.semantics === "released", "semantics", "paper or released");
  flag("convBias");
  flag("postNorm");
  checkPartition(c, rule, (v) => whole(v, 0) || four(v, 0));
}

/** The keys of quad blocks and windows: each one alone, and what excludes each other. */
function checkPartition(
  c: QuadMambaConfig,
  rule: (ok: boolean, key: keyof QuadMambaConfig, expected: string) => void,
  isSides: (value: unknown) => boolean,
): void {
  rule(
    ["learned", "random", "fixed", "none"].includes(c.partition),
    "partition",
    "learned, random, fixed or none",
  );
  rule([1, 2, 4].includes(c.coarseGrid), "coarseGrid", "1, 2 or 4 windows on a side");
  rule([2, 3].includes(c.levels), "levels", "2 or 3");
  rule([0, 1, 4].includes(c.shiftDirections), "shiftDirections", "0, 1 or 4");
  const most = Math.max(1, c.coarseGrid ** 2 - 1);
  rule(
    Number.isInteger(c.topK) && c.topK >= 1 && c.topK <= most,
    "topK",
    `from 1 to ${most} of the ${c.coarseGrid} x ${c.coarseGrid} coarse windows`,
  );
  rule(isSides(c.fixedWindows), "fixedWindows", "a whole number of tokens, or four; 0 for none");
  for (const stage of c.quadStages)
    rule(stageWindows(c)[stage - 1] === 0, "fixedWindows", `0 in stage ${stage}: it is one of quadStages`);
  for (const key of ["coarseGrid", "levels", "topK"] as const) {
    const fits = c[key] === DEFAULTS[key];
    rule(fits || c.partition !== "none", key, `${DEFAULTS[key]} with partition none, which has no windows`);
    rule(
      fits || c.semantics === "paper",
      key,
      `${DEFAULTS[key]} with semantics released, which has no other tree`,
    );
  }
  for (const key of ["partition", "coarseGrid", "levels", "topK", "shiftDirections"] as const)
    rule(
      c[key] === DEFAULTS[key] || c.quadStages.length > 0,
      key,
      `${DEFAULTS[key]} in a model without quad blocks (quadStages is empty)`,
    );
}
