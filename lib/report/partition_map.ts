/** What a quad block did with one image, drawn: scores as colours, windows as lines. */
import { type Markup, markup } from "../charts/markup.js";
import { type Level, quadPartition } from "../models/quadmamba/partition.js";
import type { PartitionSeen } from "../models/quadmamba/quad_scan.js";
import { colourMap, stretched } from "./colours.js";
import { dataUri } from "./pictures.js";

export interface PartitionMap {
  /** 1 to 4. */
  stage: number;
  /** In its stage, from 0. */
  block: number;
  /** Of the map, in tokens. */
  height: number;
  width: number;
  /** Windows of the first level: four, unless the configuration says otherwise. */
  coarse: number;
  /** The one that is read finely (of several, the first): 0 top left, 1 top right, 2 bottom left, 3 bottom right of the turned map. */
  choice: number;
  /** Of each token, row by row: log-probability of being worth a fine reading. */
  scores: Float64Array;
  /** Of each token: the window that it is read in, numbered level by level; from `coarse` on they are fine ones. */
  windows: Int32Array;
}

/** Of one image of a batch that a block was seen to partition. Tokens stand where the image has them: shifts are undone. */
export function partitionMap(seen: PartitionSeen, sample: number): PartitionMap {
  const { stage, block, height, width, shift, semantics } = seen;
  const tokens = height * width;
  const choice = Number(seen.choice.toTypedArray()[sample]);
  const all = seen.scores.toTypedArray();
  const divided = seen.divided.map((level) => {
    const count = level.shape[1];
    return level.toTypedArray().subarray(sample * count, (sample + 1) * count);
  });
  const coarse = divided[0].length;
  const tree = { grid: Math.sqrt(coarse), levels: divided.length + 1 };
  const partition = quadPartition(height, width, shift, tree, semantics);
  const scores = new Float64Array(tokens);
  const windows = new Int32Array(tokens);
  const turned = semantics === "paper" ? shift : [0, 0]; // the released scores stay where they are
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const token = row * width + column;
      const y = (row + turned[0] + height) % height;
      const x = (column + turned[1] + width) % width;
      scores[token] = Number(all[sample * tokens + y * width + x]);
      windows[token] = windowOf(token, partition, divided);
    }
  return { stage, block, height, width, coarse, choice, scores, windows };
}

/** The window of the deepest level that was reached at a token; numbers go on from level to level. */
function windowOf(token: number, partition: Level[], divided: readonly ArrayLike<number | bigint>[]): number {
  let [level, before] = [0, 0];
  while (level < divided.length && Number(divided[level][partition[level].window[token]]) === 1)
    before += divided[level++].length;
  return before + partition[level].window[token];
}

/** The scores over the image, of `size` pixels; the best token is yellow, the worst violet. */
export async function scoreLayer(map: PartitionMap, size: number): Promise<Markup> {
  const stride = strideOf(map);
  const uri = await dataUri(colourMap(stretched(map.scores), map.height, map.width));
  return markup`<svg width="${size}" height="${size}" viewBox="0 0 ${size} ${size}"><image class="pixels" style="image-rendering: pixelated" opacity="0.65" width="${map.width * stride}" height="${map.height * stride}" preserveAspectRatio="none" href="${uri}"/></svg>`;
}

/** Borders of the windows over an image of `size` pixels: of the quadrants white, around and within the chosen one orange. */
export function windowLayer(map: PartitionMap, size: number): Markup {
  const borders = bordersOf(map);
  const path = (kind: Border) => borders[kind].join("");
  const stroke = (kind: Border, colour: string, share: number) =>
    markup`<path d="${path(kind)}" fill="none" stroke="${colour}" stroke-width="${size * share}"/>`;
  return markup`<svg width="${size}" height="${size}" viewBox="0 0 ${size} ${size}">
${stroke("coarse", "#000", 0.016)}${stroke("coarse", "#fff", 0.008)}
${stroke("fine", "#000", 0.018)}${stroke("chosen", "#000", 0.032)}
${stroke("fine", "#ff8c1a", 0.01)}${stroke("chosen", "#ff8c1a", 0.022)}
</svg>`;
}

/** Pixels of a side of a token. */
function strideOf({ stage }: PartitionMap): number {
  return 2 ** (stage + 1);
}

/** A border between quadrants, around the chosen one, or between its windows. */
type Border = "coarse" | "chosen" | "fine";

/** The borders between neighbouring tokens of different windows, as SVG path steps in pixels. */
function bordersOf(map: PartitionMap): Record<Border, string[]> {
  const { height, width, windows, coarse } = map;
  const stride = strideOf(map);
  const found: Record<Border, string[]> = { coarse: [], chosen: [], fine: [] };
  const at = (row: number, column: number): number | undefined =>
    row >= 0 && row < height && column >= 0 && column < width ? windows[row * width + column] : undefined;
  for (let row = 0; row <= height; row++)
    for (let column = 0; column <= width; column++) {
      const here = at(row, column);
      const above = borderOf(coarse, at(row - 1, column), here);
      if (above) found[above].push(`M${column * stride} ${row * stride}h${stride}`);
      const before = borderOf(coarse, at(row, column - 1), here);
      if (before) found[before].push(`M${column * stride} ${row * stride}v${stride}`);
    }
  return found;
}

function borderOf(coarse: number, a: number | undefined, b: number | undefined): Border | undefined {
  if (a === b) return undefined;
  const fineA = a !== undefined && a >= coarse;
  const fineB = b !== undefined && b >= coarse;
  if (fineA && fineB) return "fine";
  if (fineA || fineB) return "chosen";
  return a === undefined || b === undefined ? undefined : "coarse";
}
