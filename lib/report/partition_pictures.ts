import sharp from "sharp";
import { type Markup, markup } from "../charts/markup.js";
import type { Image } from "../data/index.js";
import { type PartitionMap, scoreLayer, windowLayer } from "./partition_map.js";
import { dataUri } from "./pictures.js";

/** Panels are at least this many pixels wide; images are enlarged by whole factors. */
const PANEL = 256;
const GAP = 8;
const LABEL = 22;

export interface Picture {
  /** Such as stage1-block0, or sheet. */
  name: string;
  png: Buffer;
}

/** For every block its scores and its windows over the image, side by side; and a sheet of all blocks, one to a column. */
export async function partitionPictures(image: Image, maps: readonly PartitionMap[]): Promise<Picture[]> {
  const panels = await panelsOf(image, maps);
  const scores = panels.map(([layer]) => layer);
  const windows = panels.map(([, layer]) => layer);
  const blocks = await Promise.all(
    maps.map(async (map, k) => ({
      name: `stage${map.stage}-block${map.block}`,
      png: await rasterised(image, [
        { title: title(map), cells: [scores[k]] },
        { title: "", cells: [windows[k]] },
      ]),
    })),
  );
  const columns = maps.map((map, k) => ({ title: title(map), cells: [scores[k], windows[k]] }));
  const sheet = await rasterised(image, [{ title: "image", cells: [undefined] }, ...columns]);
  return [...blocks, { name: "sheet", png: sheet }];
}

function title({ stage, block }: PartitionMap): string {
  return `stage ${stage}, block ${block}`;
}

function panelsOf(image: Image, maps: readonly PartitionMap[]): Promise<[Markup, Markup][]> {
  return Promise.all(
    maps.map(
      async (map): Promise<[Markup, Markup]> => [
        await scoreLayer(map, image.height),
        windowLayer(map, image.height),
      ],
    ),
  );
}

/** Columns of panels, each the image with a layer over it, or alone. */
async function rasterised(
  image: Image,
  columns: { title: string; cells: (Markup | undefined)[] }[],
): Promise<Buffer> {
  const size = image.height;
  const panel = size * Math.ceil(PANEL / size);
  const rows = Math.max(...columns.map(({ cells }) => cells.length));
  const [width, height] = [columns.length * (panel + GAP) + GAP, rows * (panel + GAP) + LABEL];
  const drawn = columns.flatMap(({ title, cells }, column) => {
    const x = GAP + column * (panel + GAP);
    const label = markup`<text x="${x}" y="${LABEL - 7}" font-family="sans-serif" font-size="13">${title}</text>`;
    const at = (row: number) => LABEL + row * (panel + GAP);
    return [
      label,
      ...cells.map(
        (layer, row) =>
          markup`<svg x="${x}" y="${at(row)}" width="${panel}" height="${panel}" viewBox="0 0 ${size} ${size}"><use href="#seen"/>${layer}</svg>`,
      ),
    ];
  });
  const svg = markup`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">
<defs><image id="seen" style="image-rendering: pixelated" width="${size}" height="${size}" href="${await dataUri(image)}"/></defs>
<rect width="${width}" height="${height}" fill="#fff"/>
${drawn}
</svg>`;
  return sharp(Buffer.from(svg.toString()))
    .flatten({ background: "white" })
    .png({ compressionLevel: 9 })
    .toBuffer();
}
