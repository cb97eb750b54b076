/** All public ops, each with its float64 reference. */
import { convolution } from "./convolution.js";
import { create } from "./create.js";
import { elementwise } from "./elementwise.js";
import { indexing } from "./indexing.js";
import { model } from "./model.js";
import { moving } from "./moving.js";
import { products } from "./products.js";
import { reduce } from "./reduce.js";
import { resizing } from "./resizing.js";
import type { OpRow } from "./row.js";

export const table: readonly OpRow[] = [
  ...create,
  ...elementwise,
  ...reduce,
  ...products,
  ...convolution,
  ...resizing,
  ...moving,
  ...indexing,
  ...model,
];
