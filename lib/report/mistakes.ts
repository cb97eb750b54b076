import { type Markup, markup } from "../charts/markup.js";
import type { Image } from "../data/index.js";
import { percent } from "../train/console_report.js";
import { dataUri } from "./pictures.js";

const MOST = 24;
const LONGEST_SIDE = 112;

export interface Mistake {
  sample: number;
  label: number;
  predicted: number;
  confidence: number;
}

/** Wrong answers, the surest first; equally sure ones in the order of the data. */
export function surestMistakes(
  labels: ArrayLike<number>,
  { predicted, confidence }: { predicted: readonly number[]; confidence: readonly number[] },
): Mistake[] {
  return predicted
    .map((guess, sample) => ({
      sample,
      label: labels[sample],
      predicted: guess,
      confidence: confidence[sample],
    }))
    .filter((answer) => answer.predicted !== answer.label)
    .sort((a, b) => b.confidence - a.confidence)
    .slice(0, MOST);
}

/** Thumbnails of mistakes, with what they show and what the model sees in them. */
export async function mistakesSection(
  mistakes: readonly Mistake[],
  images: readonly Image[],
  classes: readonly string[],
): Promise<Markup> {
  if (mistakes.length === 0) return markup`<p>There are none.</p>`;
  const figures = await Promise.all(
    mistakes.map(async ({ sample, label, predicted, confidence }, k) => {
      const uri = await dataUri(images[k], LONGEST_SIDE);
      return markup`<figure><img class="pixels" src="${uri}" alt="Test image ${sample}: ${classes[label]}, taken for ${classes[predicted]}" loading="lazy">
<figcaption><b>${classes[predicted]}</b> <span class="number">${percent(confidence)}</span><br>is ${classes[label]}<br><small>test:${sample}</small></figcaption></figure>`;
    }),
  );
  return markup`<div class="thumbnails">${figures}</div>`;
}
