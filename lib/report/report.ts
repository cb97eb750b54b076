import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { type Markup, markup } from "../charts/markup.js";
import { page } from "../charts/page.js";
import type { DataSource } from "../data/index.js";
import { writeFileAtomic } from "../io/atomic_write.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import {
  type Checkpoint,
  disposeCheckpoint,
  loadCheckpoint,
  modelOf,
  type Weights,
} from "../train/checkpoint.js";
import { loadDataOf } from "../train/checkpoint_data.js";
import { percent } from "../train/console_report.js";
import { type Evaluation, TestImages } from "../train/evaluate.js";
import type { Placement } from "../train/placement.js";
import { workersOf } from "../train/workers.js";
import { ConfigError, FileError } from "../util/errors.js";
import { confusionSection } from "./confusion.js";
import { curves } from "./curves.js";
import { inspect } from "./inspect.js";
import { SCRIPT, STYLE } from "./looks.js";
import { mistakesSection, surestMistakes } from "./mistakes.js";
import { choicesSection, samplesSection } from "./partition_section.js";
import { imagesOf, preparedBatch } from "./pictures.js";
import { epochTable, facts, headline } from "./record_section.js";
import { type RunRecord, readRun } from "./run_record.js";
import { seePartitions } from "./see_partitions.js";

/** Images whose partition is shown, each of another class. */
const MOST_SAMPLES = 6;

export interface ReportOptions extends Placement {
  /** Images at a time. */
  evalBatchSize: number;
  weights: Weights;
  /** Another data set than the run's. */
  data?: string;
}

export interface Report {
  path: string;
  bytes: number;
  record: RunRecord;
  /** On the test images, if there was all that it takes. */
  evaluation: Evaluation | undefined;
  /** Checkpoint that was evaluated. */
  checkpoint: string;
  /** What the page lacks, and why. */
  leftOut: string[];
}

/**
 * Writes report.html into the folder of a run: one file that needs no other and no network.
 * What is missing or does not load (a file, the data set) is left out, and the page says so.
 * @throws {FileError} if the folder holds no run, or cannot be written
 */
export async function writeReport(folder: string, options: ReportOptions): Promise<Report> {
  const record = readRun(folder);
  const leftOut = [...record.leftOut];
  const checkpoint = join(folder, options.weights === "ema" ? "best-ema.safetensors" : "best.safetensors");
  const tested = await attempt(leftOut, "the test images", () => testSections(checkpoint, options));
  const charts = curves(record.metrics);
  const body = markup`<header><h1>${record.name}</h1>
<p class="soft">${describe(record)}</p>
${headline(record)}
${leftOut.length > 0 && markup`<div class="notes"><p>Left out:</p><ul>${leftOut.map((text) => markup`<li>${text}</li>`)}</ul></div>`}</header>
<main>
${charts.length > 0 && section("Curves", markup`${lossNote(record)}<div class="charts">${charts}</div>${epochTable(record)}`)}
${tested?.sections}
${section("Configuration and environment", markup`<div class="pair">${record.config && facts("config.json", record.config)}${record.environment && facts("environment.json", record.environment)}</div>`)}
</main>`;
  const text = Buffer.from(page({ title: `${record.name} - QuadMamba`, style: STYLE, script: SCRIPT }, body));
  const path = join(folder, "report.html");
  writeFileAtomic(path, [text]);
  return { path, bytes: text.length, record, evaluation: tested?.evaluation, checkpoint, leftOut };
}

/** What fails for want of a file or a data set is left out; anything else is a fault. */
async function attempt<R>(leftOut: string[], what: string, action: () => Promise<R>): Promise<R | undefined> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof FileError || error instanceof ConfigError)) throw error;
    leftOut.push(`${what}: ${error.message}`);
    return undefined;
  }
}

function section(title: string, body: Markup): Markup {
  return markup`<section><h2>${title}</h2>
${body}</section>`;
}

function describe({ config, environment }: RunRecord): string {
  const { data, model, imageSize, batchSize, seed, precision } = config ?? {};
  const parts = [
    data,
    typeof model === "string" ? model : model !== undefined && JSON.stringify(model),
    imageSize && `${imageSize} x ${imageSize} pixels`,
    batchSize && `batches of ${batchSize}`,
    seed !== undefined && `seed ${seed}`,
    precision,
    environment?.cpu,
    environment?.begun && `begun ${environment.begun}`,
  ];
  return parts.filter((part) => typeof part === "string").join(", ");
}

function lossNote({ config }: RunRecord): Markup | undefined {
  const smoothing = config?.labelSmoothing;
  if (typeof smoothing !== "number" || smoothing === 0) return undefined;
  return markup`<p>Figures of training are means over the epoch so far, under everything random; the training loss includes label smoothing of ${smoothing}, test losses do not.</p>`;
}

/** All that is seen by running the model over the test images. */
async function testSections(
  path: string,
  options: ReportOptions,
): Promise<{ evaluation: Evaluation; sections: Markup }> {
  if (!existsSync(path)) throw new FileError("report", `${path} is missing`);
  const checkpoint = loadCheckpoint(path);
  try {
    const data = await loadDataOf(path, checkpoint, options.data);
    const model = modelOf(checkpoint, options.weights).to(options.device);
    try {
      return await sectionsOf(model, checkpoint, data, basename(path), options);
    } finally {
      model.dispose();
    }
  } finally {
    disposeCheckpoint(checkpoint);
  }
}

async function sectionsOf(
  model: QuadMamba,
  { prepare, config }: Checkpoint,
  data: DataSource,
  file: string,
  options: ReportOptions,
): Promise<{ evaluation: Evaluation; sections: Markup }> {
  const { name, test, classes } = data;
  const workers = workersOf({ ...config, device: options.device }, data);
  const { prefetch } = config;
  const testImages = new TestImages(test, prepare, { classes: classes.length, workers, prefetch });
  const { evaluation, predicted, confidence, blocks } = await inspect(model, testImages, options).finally(
    () => testImages.dispose(),
  );
  const mistakes = surestMistakes(test.labels, { predicted, confidence });
  const images = imagesOf(
    await preparedBatch(
      test,
      mistakes.map(({ sample }) => sample),
      prepare,
    ),
    prepare,
  );
  const samples = firstOfClasses(test.labels, MOST_SAMPLES);
  const batch = await preparedBatch(test, samples, prepare);
  const maps = seePartitions(model, batch, options);
  const shown = imagesOf(batch, prepare).map((image, k) => ({
    sample: samples[k],
    label: classes[test.labels[samples[k]]],
    image,
    maps: maps[k],
  }));
  const summary = `${file} on ${test.count} test images of ${name}: top-1 ${percent(evaluation.top1)}, top-5 ${percent(evaluation.top5)}, loss ${evaluation.loss.toFixed(4)}`;
  return {
    evaluation,
    sections: markup`${section("Confusion", markup`<p>${summary}.</p>${await confusionSection(evaluation.confusion, classes)}`)}
${section("Surest mistakes", await mistakesSection(mistakes, images, classes))}
${section("Partitions", choicesSection(blocks))}
${blocks.length > 0 && section("Partitions of some images", await samplesSection(shown))}`,
  };
}

/** The first sample of each class, in the order of the data. */
function firstOfClasses(labels: ArrayLike<number>, most: number): number[] {
  const found = new Map<number, number>();
  for (let sample = 0; sample < labels.length && found.size < most; sample++)
    if (!found.has(labels[sample])) found.set(labels[sample], sample);
  return [...found.values()];
}
