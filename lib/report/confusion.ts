import { type Markup, markup } from "../charts/markup.js";
import { percent } from "../train/console_report.js";
import { colourMap } from "./colours.js";
import { dataUri } from "./pictures.js";

/** Classes up to which the matrix is a table of numbers; beyond, it is a picture with a pixel for each cell. */
const MOST_IN_TABLE = 20;
const MOST_PAIRS = 15;
/** Classes whose accuracy is shown; of more, those that do worst. */
const MOST_CLASSES = 20;

/** Which classes are taken for which: the matrix, and what stands out in it. */
export async function confusionSection(
  confusion: readonly (readonly number[])[],
  classes: readonly string[],
): Promise<Markup> {
  const matrix =
    classes.length <= MOST_IN_TABLE ? table(confusion, classes) : await picture(confusion, classes);
  return markup`${matrix}
<div class="pair">
${pairs(confusion, classes)}
${accuracies(confusion, classes)}
</div>`;
}

function sum(row: readonly number[]): number {
  return row.reduce((a, b) => a + b, 0);
}

function shareOf(count: number, total: number): number {
  return total > 0 ? count / total : 0;
}

function table(confusion: readonly (readonly number[])[], classes: readonly string[]): Markup {
  const heads = classes.map((name) => markup`<th scope="col"><span>${name}</span></th>`);
  const rows = confusion.map((row, label) => {
    const total = sum(row);
    const cells = row.map((count, predicted) => {
      // The square root shows single mistakes beside thousands of right answers.
      const heat = Math.sqrt(shareOf(count, total)).toFixed(2);
      const kind = label === predicted ? "right" : "wrong";
      return markup`<td class="${kind}" style="--heat: ${heat}">${count > 0 && count}</td>`;
    });
    return markup`<tr><th scope="row">${classes[label]}</th>${cells}<td>${percent(shareOf(row[label], total))}</td></tr>`;
  });
  return markup`<div class="scroll"><table class="confusion"><caption>Rows: the true class. Columns: what the model takes it for.</caption>
<thead><tr><td></td>${heads}<th scope="col"><span>accuracy</span></th></tr></thead>
<tbody>${rows}</tbody></table></div>`;
}

async function picture(
  confusion: readonly (readonly number[])[],
  classes: readonly string[],
): Promise<Markup> {
  const n = classes.length;
  const values = confusion.flatMap((row) => {
    const total = sum(row);
    return row.map((count) => Math.sqrt(shareOf(count, total)));
  });
  const uri = await dataUri(colourMap(values, n, n));
  return markup`<figure><img class="pixels matrix" src="${uri}" width="${n}" height="${n}" alt="Confusion matrix of ${n} classes; the tables below name what stands out in it.">
<figcaption>One pixel for each pair of ${n} classes, from ${classes[0]} at the top left to ${classes[n - 1]}: rows are true classes, columns predictions. Lighter: a larger share of the row, on a square-root scale.</figcaption></figure>`;
}

function pairs(confusion: readonly (readonly number[])[], classes: readonly string[]): Markup {
  const found = confusion
    .flatMap((row, label) => {
      const total = sum(row);
      return row.map((count, predicted) => ({ label, predicted, count, share: shareOf(count, total) }));
    })
    .filter(({ label, predicted, count }) => label !== predicted && count > 0)
    .sort((a, b) => b.count - a.count)
    .slice(0, MOST_PAIRS);
  if (found.length === 0) return markup`<p>No image is taken for another class.</p>`;
  const rows = found.map(
    ({ label, predicted, count, share }) =>
      markup`<tr><td>${classes[label]}</td><td>${classes[predicted]}</td><td class="number">${count}</td><td class="number">${percent(share)}</td></tr>`,
  );
  return markup`<table><caption>Most frequent confusions</caption><thead><tr><th scope="col">true</th><th scope="col">taken for</th><th scope="col">images</th><th scope="col">of the class</th></tr></thead><tbody>${rows}</tbody></table>`;
}

function accuracies(confusion: readonly (readonly number[])[], classes: readonly string[]): Markup {
  const found = confusion
    .map((row, label) => ({ label, total: sum(row), share: shareOf(row[label], sum(row)) }))
    .filter(({ total }) => total > 0)
    .sort((a, b) => a.share - b.share)
    .slice(0, MOST_CLASSES);
  const rows = found.map(
    ({ label, total, share }) =>
      markup`<tr><td>${classes[label]}</td><td class="number">${percent(share)}</td><td class="number">${total}</td></tr>`,
  );
  const title =
    classes.length > MOST_CLASSES ? `The ${found.length} least accurate classes` : "Accuracy of each class";
  return markup`<table><caption>${title}</caption><thead><tr><th scope="col">class</th><th scope="col">accuracy</th><th scope="col">images</th></tr></thead><tbody>${rows}</tbody></table>`;
}
