import { cpus } from "node:os";
import { clearLine, cursorTo } from "node:readline";
import { styleText } from "node:util";
import type { ImageSet } from "../data/index.js";
import { addonInfo } from "../native/addon.js";
import { cudaInfo } from "../native/cuda.js";
import { getThreads } from "../tensor/memory.js";
import { modelTable } from "./model_summary.js";
import type { StepReport, TrainObserver } from "./observer.js";
import type { Placement } from "./placement.js";
import { learningRateScale } from "./schedule.js";

const BAR_WIDTH = 24;
const LINE_EVERY_MS = 10_000;
const REDRAW_EVERY_MS = 100;

/** Seconds as 1:02 or 1:02:03. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return `${h > 0 ? `${h}:${String(m).padStart(2, "0")}` : m}:${String(s).padStart(2, "0")}`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}

/** One line that says what computes. */
export function deviceLine({ device, precision }: Placement): string {
  const node = `Node ${process.versions.node}`;
  if (device === "cuda") {
    const info = cudaInfo();
    return `device   cuda (${info.available ? info.name : "none"}), ${precision}, ${node}`;
  }
  const cpu = cpus()[0]?.model.trim() ?? "unknown processor";
  return `device   cpu (${cpu}), ${getThreads()} threads, ${addonInfo.isa}, ${node}`;
}

/**
 * Shows a run: what it is, a bar that is redrawn where there is a terminal and a line now and then where there is none, and the
 * test figures of every epoch.
 */
export function consoleReport(out: NodeJS.WriteStream = process.stdout): TrainObserver {
  const terminal = out.isTTY === true;
  const coloured = terminal && !process.env.NO_COLOR;
  const bold = (text: string) => (coloured ? styleText("bold", text) : text);
  const begun = performance.now();
  let shownAt = -Infinity;
  let barShown = false;
  const print = (line: string): void => {
    if (barShown) {
      cursorTo(out, 0);
      clearLine(out, 0);
      barShown = false;
    }
    out.write(`${line}\n`);
  };

  return {
    begin({ config, data, model, folder, steps, resumedAt }) {
      const { train, test } = data;
      const lr = config.lr * learningRateScale(config);
      print(deviceLine(config));
      print(
        `data     ${data.name}: ${train.count} training and ${test.count} test images ${sizeOf(train)}, ${data.classes.length} classes, on ${config.imageSize} x ${config.imageSize}`,
      );
      print(
        `run      ${config.epochs} epochs, batches of ${config.batchSize}, ${steps} steps, lr ${Number(lr.toPrecision(4))}, seed ${config.seed}${resumedAt > 0 ? `, resumed at step ${resumedAt}` : ""}`,
      );
      print(`saves to ${folder}`);
      print("");
      for (const line of modelTable(model, config.imageSize)) print(line);
      print("");
    },
    step(at) {
      const now = performance.now();
      const last = at.position === at.stepsPerEpoch;
      if (now - shownAt < (terminal ? REDRAW_EVERY_MS : LINE_EVERY_MS) && !last) return;
      shownAt = now;
      if (!terminal) return print(progress(at));
      cursorTo(out, 0);
      out.write(progress(at).slice(0, out.columns - 1));
      clearLine(out, 1);
      barShown = true;
    },
    epoch({ epoch, trainLoss, trainAccuracy, test, ema, best, bestEma }) {
      print(
        bold(`epoch ${epoch + 1}: test accuracy ${percent(test.top1)}`) +
          `${best ? " (best)" : ""}${ema ? `, of the average ${percent(ema.top1)}${bestEma ? " (best)" : ""}` : ""}, test loss ${test.loss.toFixed(4)}; train loss ${trainLoss.toFixed(4)}, train accuracy ${percent(trainAccuracy)}; ${clock((performance.now() - begun) / 1000)} so far`,
      );
    },
    warning(message) {
      print(`warning: ${message}`);
    },
  };
}

function sizeOf(set: ImageSet): string {
  return set.kind === "files" ? "in files" : `of ${set.height} x ${set.width} x ${set.channels}`;
}

function progress(at: StepReport): string {
  const filled = Math.round((BAR_WIDTH * at.position) / at.stepsPerEpoch);
  const bar = "#".repeat(filled) + "-".repeat(BAR_WIDTH - filled);
  const eta = at.imagesPerSecond > 0 ? ((at.steps - at.step) * at.batchSize) / at.imagesPerSecond : 0;
  return (
    `epoch ${at.epoch + 1} [${bar}] ${at.position}/${at.stepsPerEpoch}  ${Math.round(at.imagesPerSecond)} images/s  data ${Math.round(100 * at.dataShare)} %  ` +
    `loss ${at.loss.toFixed(4)}  accuracy ${percent(at.accuracy)}  ETA ${clock(eta)}`
  );
}
