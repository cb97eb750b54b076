import { ArgumentError, ConfigError, show } from "../../util/errors.js";
import { type QuadMambaConfig, resolveConfig, VARIANTS } from "./config.js";

/**
 * The configuration that a state dict's names and shapes tell. What they do not tell (semantics, postNorm, dropPathRate, and all of
 * the partition) has its default: a quad block is told from others by its predictor, which only a learned partition has.
 * @param shapes of the tensors, by name
 * @throws {ArgumentError} {ConfigError} naming what is not as in a QuadMamba
 */
export function inferConfig(shapes: ReadonlyMap<string, readonly number[]>): QuadMambaConfig {
  const op = "inferConfig";
  if (!(shapes instanceof Map))
    throw new ArgumentError(op, "shapes are not valid", "a Map of names", show(shapes));
  const shape = (name: string, rank: number): readonly number[] => {
    const found = shapes.get(name);
    if (found?.length !== rank)
      throw new ConfigError(
        op,
        "the state dict is not a QuadMamba's",
        `${name} of rank ${rank}`,
        found ? show(found) : `none among ${shapes.size} names`,
      );
    return found;
  };
  const stages = [0, 1, 2, 3];
  const first = stages.map((stage) => `layers.${stage}.blocks.0`);
  const dims = first.map((block) => shape(`${block}.norm.weight`, 1)[0]);
  const depths = stages.map((stage) => {
    let depth = 1;
    while (shapes.has(`layers.${stage}.blocks.${depth}.norm.weight`)) depth++;
    return depth;
  });
  const rank = first.map((block) => shape(`${block}.op.dt_projs_weight`, 3)[2]);
  const doubling = dims.every((d, stage) => d === dims[0] * 2 ** stage);
  const head = "classifier.head.weight";
  return resolveConfig({
    dims: doubling ? dims[0] : (dims as [number, number, number, number]),
    depths: depths as [number, number, number, number],
    ssmRatio: shape(`${first[0]}.op.in_proj.weight`, 2)[0] / dims[0],
    stateSize: shape(`${first[0]}.op.A_logs`, 2)[1],
    dtRank: rank.every((r, stage) => r === Math.ceil(dims[stage] / 16)) ? "auto" : rank[0],
    convBias: shapes.has(`${first[0]}.op.conv2d.bias`),
    mlpRatio: shape(`${first[0]}.mlp.fc1.weight`, 2)[0] / dims[0],
    inChannels: shape("patch_embed.0.weight", 4)[1],
    numClasses: shapes.has(head) ? shape(head, 2)[0] : 0,
    quadStages: stages
      .filter((s) => shapes.has(`${first[s]}.op.score_predictor.in_conv.0.weight`))
      .map((s) => s + 1),
  });
}

/** The name of the variant that a configuration has the sizes of, if any. */
export function variantOf(config: Readonly<QuadMambaConfig>): string | undefined {
  const sizes = ({ dims, depths, ssmRatio }: Readonly<QuadMambaConfig>) =>
    JSON.stringify([dims, depths, ssmRatio]);
  return Object.entries(VARIANTS).find(([, keys]) => sizes(resolveConfig(keys)) === sizes(config))?.[0];
}
