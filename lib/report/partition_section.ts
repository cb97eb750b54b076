import { type Markup, markup } from "../charts/markup.js";
import type { Image } from "../data/index.js";
import { percent } from "../train/console_report.js";
import type { BlockChoices } from "./inspect.js";
import { type PartitionMap, scoreLayer, windowLayer } from "./partition_map.js";
import { dataUri } from "./pictures.js";

/** How often each of the windows (four quadrants, unless the configuration says otherwise) is chosen, as shares. */
export function windowShares({ windows, choices }: Pick<BlockChoices, "windows" | "choices">): number[] {
  return Array.from(
    { length: windows },
    (_, window) => choices.filter((choice) => choice === window).length / choices.length,
  );
}

/** Entropy of shares in bits: 0 if it is always the same window, 2 if all of four are equally frequent. */
export function entropy(shares: readonly number[]): number {
  return shares.reduce((sum, share) => (share > 0 ? sum - share * Math.log2(share) : sum), 0);
}

/** Share of images for which two blocks choose the same quadrant. */
export function agreement(a: readonly number[], b: readonly number[]): number {
  return a.filter((choice, k) => choice === b[k]).length / a.length;
}

function name({ stage, block }: { stage: number; block: number }): string {
  return `stage ${stage}, block ${block}`;
}

/** How all images were partitioned: a small square for each block, and how far the blocks agree. */
export function choicesSection(blocks: readonly BlockChoices[]): Markup {
  if (blocks.length === 0) return markup`<p>The model has no quad blocks.</p>`;
  const cards = blocks.map((block) => {
    const shares = windowShares(block);
    const cells = shares.map(
      (share) => markup`<td style="--heat: ${share.toFixed(2)}">${percent(share)}</td>`,
    );
    const across = Math.sqrt(block.windows);
    const grid = Array.from(
      { length: across },
      (_, row) => markup`<tr>${cells.slice(row * across, (row + 1) * across)}</tr>`,
    );
    const [rows, columns] = block.shift;
    const turned =
      rows !== 0 || columns !== 0 ? markup`<br>windows turned by ${rows}, ${columns}` : undefined;
    return markup`<div><table class="quadrants"><caption>${name(block)}</caption><tbody>${grid}</tbody></table>
<p>${block.height} x ${block.width} tokens<br>entropy ${entropy(shares).toFixed(2)} of ${Math.log2(block.windows)} bits${turned}</p></div>`;
  });
  return markup`<p>How often each quadrant is the one that is read finely. At an entropy of 0 the block takes the same one for every image; at the most bits all are equally frequent.</p>
<div class="blocks">${cards}</div>
${blocks.length > 1 && agreements(blocks)}`;
}

function agreements(blocks: readonly BlockChoices[]): Markup {
  const heads = blocks.slice(0, -1).map((block) => markup`<th scope="col">${name(block)}</th>`);
  const rows = blocks.slice(1).map((a, row) => {
    const cells = blocks.slice(0, -1).map((b, column) => {
      if (column > row) return markup`<td></td>`;
      const same = agreement(a.choices, b.choices);
      const [sharesA, sharesB] = [windowShares(a), windowShares(b)];
      const chance = sharesA.reduce((sum, share, k) => sum + share * sharesB[k], 0);
      return markup`<td style="--heat: ${same.toFixed(2)}">${percent(same)}<br><small>${percent(chance)}</small></td>`;
    });
    return markup`<tr><th scope="row">${name(a)}</th>${cells}</tr>`;
  });
  return markup`<div class="scroll"><table class="agreement"><caption>Images for which two blocks choose the same quadrant; below, how many it would be by chance at these frequencies</caption><thead><tr><td></td>${heads}</tr></thead><tbody>${rows}</tbody></table></div>`;
}

export interface PartitionSample {
  /** Number in the test set, and what it shows. */
  sample: number;
  label: string;
  image: Image;
  maps: readonly PartitionMap[];
}

/** Scores and windows of all quad blocks over some images. */
export async function samplesSection(samples: readonly PartitionSample[]): Promise<Markup> {
  const rows = await Promise.all(samples.map(sampleRow));
  return markup`<p>Colours are scores, from violet (low) to yellow (high), each block on a scale of its own. Lines are windows: white between quadrants, orange around the chosen quadrant and the four windows that it is read as.</p>
${rows}`;
}

async function sampleRow({ sample, label, image, maps }: PartitionSample): Promise<Markup> {
  const size = image.height;
  const id = `sample${sample}`;
  const uri = await dataUri(image);
  const panels = await Promise.all(
    maps.map(
      async (
        map,
      ) => markup`<figure><svg viewBox="0 0 ${size} ${size}" role="img" aria-label="Test image ${sample}, ${label}: ${name(map)} chooses quadrant ${map.choice}"><use href="#${id}"/>
${await scoreLayer(map, size)}
${windowLayer(map, size)}</svg><figcaption>${name(map)}</figcaption></figure>`,
    ),
  );
  return markup`<div class="maps"><figure><svg viewBox="0 0 ${size} ${size}" role="img" aria-label="Test image ${sample}, ${label}"><image id="${id}" class="pixels" width="${size}" height="${size}" href="${uri}"/></svg><figcaption><b>${label}</b> <small>test:${sample}</small></figcaption></figure>
${panels}</div>`;
}
