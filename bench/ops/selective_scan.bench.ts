/** The fused selective scan against plain TypeScript loops, forward and forward + backward. */
import { noGrad, randn, scope, selectiveScan, sum, type Tensor } from "../../lib/index.js";
import { type Case, compare } from "../helpers/compare.js";
import { plainScan, plainScanBackward } from "../helpers/plain_scan.js";

const SHAPES = [
  { name: "stage1_nano", batch: 32, length: 64, channels: 24, states: 1 },
  { name: "stage1_224", batch: 1, length: 3136, channels: 96, states: 1 },
  { name: "states_16", batch: 1, length: 1024, channels: 96, states: 16 },
];

export async function run(): Promise<void> {
  for (const { name, batch, length, channels, states } of SHAPES) {
    const inputs = {
      u: randn([batch, length, channels]),
      delta: randn([batch, length, channels]).abs().mul(0.1),
      A: randn([channels, states]).abs().neg(),
      B: randn([batch, length, states]),
      C: randn([batch, length, states]),
    };
    const tensors = Object.values(inputs);
    const [u, delta, A, B, C] = tensors as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const arrays = Object.fromEntries(
      Object.entries(inputs).map(([key, t]) => [key, t.toTypedArray() as Float32Array]),
    );
    const plain = {
      batch,
      length,
      channels,
      states,
      ...(arrays as Record<keyof typeof inputs, Float32Array>),
    };
    const dy = new Float32Array(batch * length * channels).fill(1);
    const forward: Case = {
      name: "fused",
      run: () => scope(() => void noGrad(() => selectiveScan(u, delta, A, B, C))),
    };
    const elements = batch * length * channels * states;
    const shape = `${name}: ${batch} x ${length} x ${channels}, N ${states}`;
    await compare(`scan forward, ${shape}`, elements, [
      forward,
      { name: "plain TypeScript", run: () => void plainScan(plain) },
    ]);

    for (const t of tensors) t.requiresGrad = true;
    const both: Case = {
      name: "fused",
      run: () =>
        scope(() => {
          sum(selectiveScan(u, delta, A, B, C)).backward();
          for (const t of tensors) {
            t.grad?.dispose();
            t.grad = null;
          }
        }),
    };
    await compare(`scan forward + backward, ${shape}`, elements, [
      both,
      {
        name: "plain TypeScript",
        run: () => void plainScanBackward(plain, plainScan(plain).h, dy),
      },
    ]);
    for (const t of tensors) t.dispose();
  }
}
