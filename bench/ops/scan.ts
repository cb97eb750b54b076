/** The fused selective scan: forward, backward and both, alone and as the model calls it. */
import { noGrad, selectiveScan, type SelectiveScanOptions, type Tensor } from "../../lib/index.js";
import { type Cases, Inputs } from "../helpers/case.js";
import { dropGradients } from "../helpers/gradients.js";
import { readingOrders, type ScanShape } from "../helpers/scan.js";

const SHAPES: readonly ScanShape[] = [
  { batch: 8, groups: 2, channels: 48, length: 3136, states: 1 },
  { batch: 8, groups: 4, channels: 192, length: 196, states: 1 },
  { batch: 2, groups: 4, channels: 96, length: 1024, states: 16 },
];

export function* scan(): Cases {
  for (const shape of SHAPES) {
    yield* scanCase(shape, false);
    if (shape.states === 1) yield* scanCase(shape, true);
  }
}

/** @param model as the model calls it: u shared by the groups, read through an order, results summed on their tokens */
function* scanCase(shape: ScanShape, model: boolean): Cases {
  const { batch, groups, channels, length, states } = shape;
  const inputs = new Inputs();
  const all = groups * channels;
  const shared = model ? channels : all;
  const u = inputs.random([batch, length, shared]);
  const delta = inputs.random([batch, length, all], 0.5);
  const A = inputs.keep(() => inputs.random([all, states]).abs().neg());
  const [B, C] = [1, 2].map(() => inputs.random([batch, length, groups, states])) as [Tensor, Tensor];
  const [D, deltaBias] = [inputs.random([all]), inputs.random([all])];
  const options: SelectiveScanOptions = {
    D,
    deltaBias,
    deltaSoftplus: true,
    merge: model,
    order: model ? inputs.keep(() => readingOrders(shape, "cpu")) : null,
  };
  const bc = 2 * groups * states;
  const data = 4 * batch * length;
  const [forward, backward] = [data * (2 * shared + all + bc), data * (3 * shared + 2 * all + 2 * bc)];
  const elements = batch * length * all * states;
  const what = `${batch} x (${groups} x ${channels}) x ${length}, N ${states}, float32${model ? ", ordered and merged" : ""}`;
  const run = () => selectiveScan(u, delta, A, B, C, options);
  const row = (name: string, bytes: number, run: () => unknown) => ({
    group: "scan",
    name: `${name} ${what}`,
    run,
    bytes,
    elements,
  });
  yield row("forward", forward, () => noGrad(run));
  const leaves = [u, delta, A, B, C, D, deltaBias];
  for (const t of leaves) t.requiresGrad = true;
  const y = inputs.keep(run);
  const dy = inputs.random([...y.shape]);
  yield row("backward", backward, () => {
    y.backward(dy, { retainGraph: true });
    dropGradients(...leaves);
  });
  yield row("forward + backward", forward + backward, () => {
    run().backward(dy);
    dropGradients(...leaves);
  });
  inputs.dispose();
}
