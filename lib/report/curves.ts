import { Axes, round } from "../charts/axes.js";
import { type Markup, markup } from "../charts/markup.js";
import { linear, type Range } from "../charts/scales.js";
import { percent } from "../train/console_report.js";
import { figure, type MetricsRow } from "./run_record.js";

/** Points of a line beyond which it is thinned. */
const MOST_POINTS = 300;
/** Points of a line up to which each has a dot. */
const MOST_DOTS = 40;

interface Chart {
  title: string;
  yTitle: string;
  /** Whether figures are shares from 0 to 1. */
  share?: boolean;
  /** Whether the axis begins at 0. */
  fromZero?: boolean;
  lines: { key: string; name: string }[];
}

const CHARTS: readonly Chart[] = [
  {
    title: "Loss",
    yTitle: "cross-entropy",
    lines: [
      { key: "trainLoss", name: "training" },
      { key: "testLoss", name: "test" },
      { key: "emaTestLoss", name: "test, moving average" },
    ],
  },
  {
    title: "Accuracy",
    yTitle: "share of images",
    share: true,
    lines: [
      { key: "trainAccuracy", name: "training" },
      { key: "testAccuracy", name: "test" },
      { key: "emaTestAccuracy", name: "test, moving average" },
    ],
  },
  {
    title: "Learning rate",
    yTitle: "learning rate",
    fromZero: true,
    lines: [{ key: "lr", name: "learning rate" }],
  },
  {
    title: "Gradient norm",
    yTitle: "norm before clipping",
    fromZero: true,
    lines: [{ key: "gradNorm", name: "gradient norm" }],
  },
  {
    title: "Speed",
    yTitle: "images per second",
    fromZero: true,
    lines: [{ key: "imagesPerSecond", name: "training" }],
  },
  {
    title: "Waiting for data",
    yTitle: "share of the time",
    share: true,
    fromZero: true,
    lines: [{ key: "dataShare", name: "share of the time" }],
  },
];

/** A chart for each kind of figure that the metrics hold, over the steps of the run. */
export function curves(rows: readonly MetricsRow[]): Markup[] {
  return CHARTS.flatMap((chart) => {
    const lines = chart.lines
      .map(({ key, name }, k) => ({ name, className: `v${k}`, points: pointsOf(rows, key) }))
      .filter(({ points }) => points.length > 0);
    return lines.length > 0 ? [draw(chart, lines)] : [];
  });
}

type Point = readonly [step: number, value: number];

interface Line {
  name: string;
  className: string;
  points: Point[];
}

function pointsOf(rows: readonly MetricsRow[], key: string): Point[] {
  const points = rows.flatMap((row): Point[] => {
    const value = figure(row, key);
    return value === undefined ? [] : [[row.step, value]];
  });
  return thinned(points);
}

/** The lowest and the highest of each piece of a line, so that no spike is lost. */
function thinned(points: Point[]): Point[] {
  if (points.length <= MOST_POINTS) return points;
  const pieces = MOST_POINTS / 2;
  return Array.from({ length: pieces }, (_, k) => {
    const piece = points.slice(
      Math.floor((k * points.length) / pieces),
      Math.floor(((k + 1) * points.length) / pieces),
    );
    const byValue = piece.toSorted((a, b) => a[1] - b[1]);
    return [...new Set([byValue[0], byValue[byValue.length - 1]])].sort((a, b) => a[0] - b[0]);
  }).flat();
}

function draw({ title, yTitle, share, fromZero }: Chart, lines: Line[]): Markup {
  const all = lines.flatMap(({ points }) => points);
  const text = share ? percent : (value: number) => String(Number(value.toPrecision(4)));
  const axes = new Axes(
    linear(steps(all.map(([step]) => step))),
    linear(
      values(
        all.map(([, value]) => value),
        share,
        fromZero,
      ),
    ),
  );
  const drawn = lines.map(({ name, className, points }) => {
    const data = markup`data-name="${name}" data-steps="${points.map(([step]) => step).join(" ")}" data-values="${points.map(([, value]) => text(value)).join("|")}"`;
    const dots = points.map(([step, value]) => dot(axes.x(step), axes.y(value)));
    return markup`${axes.line(points, className, data)}${points.length <= MOST_DOTS && markup`<g class="dots ${className}">${dots}</g>`}`;
  });
  const frame = {
    label: `${title} over the steps of the run`,
    xTitle: "step",
    yTitle,
    yText: share ? (value: number) => `${Number((100 * value).toPrecision(6))} %` : undefined,
  };
  const keys = lines.map(({ name, className, points }) => {
    const [, last] = points[points.length - 1];
    return markup`<span><svg class="key" viewBox="0 0 16 12" aria-hidden="true"><path class="${className}" d="M0 6H16"/></svg>${name} ${text(last)}</span>`;
  });
  return markup`<figure class="chart"><h3>${title}</h3>
${axes.svg(frame, drawn)}
<figcaption><span class="last">${keys}</span><output></output></figcaption></figure>`;
}

function dot(x: number, y: number): Markup {
  return markup`<circle cx="${round(x)}" cy="${round(y)}" r="2.2"/>`;
}

function steps(all: readonly number[]): Range {
  const [from, to] = [Math.min(0, ...all), Math.max(...all)];
  return { from, to: to > from ? to : from + 1 };
}

/** From the smallest to the largest value with a little room, within what is possible. */
function values(all: readonly number[], share = false, fromZero = false): Range {
  const [least, most] = [fromZero ? 0 : Math.min(...all), Math.max(...all)];
  const room = 0.04 * (most - least) || Math.abs(most) / 10 || 1;
  return {
    from: fromZero ? 0 : share ? Math.max(0, least - room) : least - room,
    to: share ? Math.min(1, most + room) : most + room,
  };
}
