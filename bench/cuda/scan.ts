/** The selective scan at the shapes of the published models, and at Mamba's. */
import {
  type DType,
  noGrad,
  randn,
  scope,
  selectiveScan,
  type SelectiveScanOptions,
  Tensor,
} from "../../lib/index.js";
import { dropGradients } from "../helpers/gradients.js";
import { readingOrders, type ScanShape } from "../helpers/scan.js";
import { measure, type Row } from "./measure.js";

type NamedShape = ScanShape & { name: string };

const SHAPES: readonly NamedShape[] = [
  { name: "stage 1 small", batch: 128, groups: 2, channels: 192, length: 3136, states: 1 },
  { name: "stage 2 small", batch: 128, groups: 2, channels: 384, length: 784, states: 1 },
  { name: "stage 3 small", batch: 128, groups: 4, channels: 768, length: 196, states: 1 },
  { name: "stage 4 small", batch: 128, groups: 4, channels: 1536, length: 49, states: 1 },
  { name: "stage 1 tiny", batch: 128, groups: 2, channels: 64, length: 3136, states: 1 },
  { name: "vmamba", batch: 64, groups: 4, channels: 192, length: 3136, states: 16 },
  { name: "mamba", batch: 8, groups: 1, channels: 2048, length: 2048, states: 16 },
];

export function scanRows(): Row[] {
  return SHAPES.flatMap((shape) =>
    (["bfloat16", "float32"] as const).flatMap((dtype) => [
      ...scanCase(shape, dtype, false),
      ...(shape.groups > 1 && shape.states === 1 ? scanCase(shape, dtype, true) : []),
    ]),
  );
}

/** @param model as the model calls it: u shared by the groups, read through an order, results summed on their tokens */
function scanCase(shape: NamedShape, dtype: DType, model: boolean): Row[] {
  const { name, batch, groups, channels, length, states } = shape;
  const all = groups * channels;
  const uChannels = model ? channels : all;
  const random = (dims: number[], scale = 1) =>
    scope(() => randn(dims, { device: "cuda" }).mul(scale).to(dtype)).keep();
  const inputs = {
    u: random([batch, length, uChannels]),
    delta: random([batch, length, all], 0.5),
    A: scope(() => randn([all, states], { device: "cuda" }).abs().neg()).keep(),
    B: random([batch, length, groups, states]),
    C: random([batch, length, groups, states]),
  };
  const options: SelectiveScanOptions = {
    D: randn([all], { device: "cuda" }).keep(),
    deltaBias: randn([all], { device: "cuda" }).keep(),
    deltaSoftplus: true,
    merge: model,
    order: model ? readingOrders(shape, "cuda").keep() : null,
  };
  const { u, delta, A, B, C } = inputs;
  const width = dtype === "bfloat16" ? 2 : 4;
  const data = batch * length * width;
  const bc = 2 * groups * states;
  const what = `${name} ${batch} x (${groups} x ${channels}) x ${length}, N ${states}, ${dtype}${model ? ", ordered and merged" : ""}`;
  const rows = [
    measure("scan", `forward ${what}`, () => noGrad(() => selectiveScan(u, delta, A, B, C, options)), {
      bytes: data * (uChannels + all + uChannels + bc),
    }),
  ];
  const leaves = [u, delta, A, B, C, options.D, options.deltaBias] as Tensor[];
  for (const t of leaves) t.requiresGrad = true;
  const y = selectiveScan(u, delta, A, B, C, options);
  const dy = random([...y.shape]);
  rows.push(
    measure(
      "scan",
      `backward ${what}`,
      () => {
        y.backward(dy, { retainGraph: true });
        dropGradients(...leaves);
      },
      { bytes: data * (3 * uChannels + 2 * all + 2 * bc) },
    ),
  );
  for (const t of [...Object.values(inputs), options.D, options.deltaBias, options.order, y, dy])
    if (t instanceof Tensor) t.dispose();
  return rows;
}
