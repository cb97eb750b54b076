import { type Insert, type Markup, markup } from "../charts/markup.js";
import { percent } from "../train/console_report.js";
import { bestRow, figure, type RunRecord } from "./run_record.js";

/** Name and value of what matters first. */
export function headline({ metrics, config }: RunRecord): Markup {
  const cards: Insert[] = [];
  const card = (value: string, text: string) => cards.push(markup`<div><b>${value}</b>${text}</div>`);
  for (const [key, title] of [
    ["testAccuracy", "best test accuracy"],
    ["emaTestAccuracy", "of the moving average"],
  ]) {
    const best = bestRow(metrics, key);
    if (best) card(percent(figure(best, key) as number), `${title} (epoch ${best.epoch + 1})`);
  }
  const last = metrics.at(-1);
  if (last) {
    const epochs = config?.epochs === undefined ? "" : ` of ${String(config.epochs)}`;
    card(`${last.epoch + 1}${epochs}`, `epochs, ${last.step} steps`);
  }
  const speeds = metrics.flatMap((row) => figure(row, "imagesPerSecond") ?? []).sort((a, b) => a - b);
  if (speeds.length > 0)
    card(String(Math.round(speeds[Math.floor(speeds.length / 2)])), "images/s in training, median");
  return markup`<div class="cards">${cards}</div>`;
}

/** Numbers of all epochs, for those who do not see the curves or want to copy them. */
export function epochTable({ metrics }: RunRecord): Markup | undefined {
  const columns = [
    ["trainLoss", "training loss"],
    ["trainAccuracy", "training accuracy"],
    ["testLoss", "test loss"],
    ["testAccuracy", "test accuracy"],
    ["emaTestLoss", "test loss, moving average"],
    ["emaTestAccuracy", "test accuracy, moving average"],
  ].filter(([key]) => metrics.some((row) => figure(row, key) !== undefined));
  const ends = metrics.filter((row) => figure(row, "testAccuracy") !== undefined);
  if (ends.length === 0) return undefined;
  const rows = ends.map((row) => {
    const cells = columns.map(([key]) => {
      const value = figure(row, key);
      return markup`<td>${value !== undefined && (key.endsWith("Accuracy") ? percent(value) : value.toFixed(4))}</td>`;
    });
    return markup`<tr><th scope="row">${row.epoch + 1}</th><td>${row.step}</td>${cells}</tr>`;
  });
  return markup`<details><summary>Numbers of ${ends.length} epochs</summary><div class="scroll"><table class="epochs"><thead><tr><th scope="col">epoch</th><th scope="col">step</th>${columns.map(([, title]) => markup`<th scope="col">${title}</th>`)}</tr></thead><tbody>${rows}</tbody></table></div></details>`;
}

/** A file of keys and values, nested keys with dots. */
export function facts(title: string, values: Record<string, unknown>): Markup {
  const rows = flat(values).map(
    ([key, value]) => markup`<tr><th scope="row">${key}</th><td>${value}</td></tr>`,
  );
  return markup`<table class="facts"><caption>${title}</caption><tbody>${rows}</tbody></table>`;
}

function flat(values: Record<string, unknown>, prefix = ""): [string, string][] {
  return Object.entries(values).flatMap(([key, value]): [string, string][] =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? flat(value as Record<string, unknown>, `${prefix}${key}.`)
      : [[prefix + key, typeof value === "string" ? value : JSON.stringify(value)]],
  );
}
