import { noGrad } from "../autograd/mode.js";
import type { QuadMamba } from "../models/quadmamba/model.js";
import { zeros } from "../ops/index.js";
import { profileMacs } from "../ops/profile.js";
import { scope } from "../tensor/scope.js";
import { enterEvaluation } from "./evaluate.js";

export interface ModuleCost {
  /** Dotted name of the module. */
  name: string;
  parameters: number;
  /** Multiply-accumulates for one image (see lib/ops/profile.ts for what counts). */
  macs: number;
}

/**
 * Parameters and multiply-accumulates of the model's parts, for one image of size x size pixels.
 * @param depth how many levels of names are told apart below the stages: 1 for each stage, 3 for its blocks
 */
export function modelCosts(model: QuadMamba, size: number, depth: number): ModuleCost[] {
  const group = (name: string): string => {
    const parts = name.split(".");
    return parts.slice(0, parts[0] === "layers" ? 1 + depth : Math.max(1, depth - 1)).join(".");
  };
  const costs = new Map<string, ModuleCost>();
  const costOf = (name: string): ModuleCost => {
    const key = group(name);
    let cost = costs.get(key);
    if (!cost) {
      cost = { name: key, parameters: 0, macs: 0 };
      costs.set(key, cost);
    }
    return cost;
  };
  for (const [name, t] of model.namedParameters())
    costOf(name.slice(0, name.lastIndexOf("."))).parameters += t.size;
  const leave = enterEvaluation(model);
  const macs = scope(() => {
    const [{ device }] = model.parameters();
    const image = zeros([1, size, size, model.config.inChannels], { device });
    const run = () => (model.classifier ? model.forward(image) : model.forwardFeatures(image));
    return model.withNames(() => profileMacs(() => noGrad(run)));
  });
  leave();
  for (const [name, count] of macs) costOf(name).macs += count;
  return [...costs.values()];
}

/** The costs as lines of text, with totals. */
export function modelTable(model: QuadMamba, size: number, depth = 1): string[] {
  const costs = modelCosts(model, size, depth);
  const sumOf = (key: "parameters" | "macs"): number => costs.reduce((sum, cost) => sum + cost[key], 0);
  const total: ModuleCost = {
    name: "total",
    parameters: sumOf("parameters"),
    macs: sumOf("macs"),
  };
  const rows = [...costs, total].map(({ name, parameters, macs }) => [
    name,
    parameters.toLocaleString("en-US"),
    formatMacs(macs),
  ]);
  const head = ["module", "parameters", `MACs at ${size} x ${size}`];
  const widths = head.map((cell, k) => Math.max(cell.length, ...rows.map((row) => row[k].length)));
  const line = (cells: string[]) =>
    cells.map((cell, k) => (k === 0 ? cell.padEnd(widths[k]) : cell.padStart(widths[k]))).join("  ");
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  return [line(head), rule, ...rows.slice(0, -1).map(line), rule, line(rows[rows.length - 1])];
}

export function formatMacs(macs: number): string {
  return macs >= 1e8 ? `${(macs / 1e9).toFixed(4)} G` : `${(macs / 1e6).toFixed(3)} M`;
}
