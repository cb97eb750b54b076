import sharp from "sharp";
import { type Markup, markup } from "../charts/markup.js";
import { colourMap } from "./colours.js";
import type { Field } from "./erf.js";
import { dataUri } from "./pictures.js";

/** Powers of ten between the strongest pixel and those that are drawn darkest. */
export const DECADES = 3;
const PANEL = 256;
const GAP = 8;
const LABEL = 22;

/** Fields side by side, each on a logarithmic scale of its own, as a PNG. */
export async function fieldsPicture(fields: readonly { title: string; field: Field }[]): Promise<Buffer> {
  const panels = await Promise.all(
    fields.map(({ title, field }, k) => panelOf(title, field, GAP + k * (PANEL + GAP))),
  );
  const [width, height] = [fields.length * (PANEL + GAP) + GAP, LABEL + PANEL + GAP];
  const svg = markup`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">
<rect width="${width}" height="${height}" fill="#fff"/>
${panels}
</svg>`;
  return sharp(Buffer.from(svg.toString()))
    .flatten({ background: "white" })
    .png({ palette: true })
    .toBuffer();
}

async function panelOf(title: string, { height, width, shares }: Field, x: number): Promise<Markup> {
  const most = shares.reduce((a, b) => Math.max(a, b), 0);
  const values = shares.map((share) => (share > 0 ? 1 + Math.log10(share / most) / DECADES : 0));
  const uri = await dataUri(colourMap(values, height, width));
  return markup`<text x="${x}" y="${LABEL - 7}" font-family="sans-serif" font-size="13">${title}</text>
<image x="${x}" y="${LABEL}" width="${PANEL}" height="${PANEL}" style="image-rendering: pixelated" href="${uri}"/>`;
}
