/** Whole training steps (forward, backward, clip, AdamW) and forward passes, batch 128 of 224 x 224. */
import {
  AdamW,
  createQuadMamba,
  noGrad,
  profileOnDevice,
  randn,
  scope,
  synchronize,
  type Variant,
} from "../../lib/index.js";
import { TrainStep } from "../../lib/train/step.js";
import type { Precision } from "../../lib/train/placement.js";
import { measureSteps, type Row } from "./measure.js";

const BATCH = 128;
const SIDE = 224;

export function modelRows(variants: readonly Variant[], profile: boolean): Row[] {
  return variants.flatMap((variant) =>
    (["bf16", "fp32"] as const)
      .filter((p) => p === "bf16" || variant === "lite" || variant === "small")
      .flatMap((precision) => modelCase(variant, precision, profile)),
  );
}

function modelCase(variant: Variant, precision: Precision, profile: boolean): Row[] {
  const rows: Row[] = [];
  const model = createQuadMamba(variant).to("cuda");
  const optimizer = new AdamW(model.parameters(), { lr: 1e-4, weightDecay: 0.05 });
  const pixels = new Float32Array(BATCH * SIDE * SIDE * 3).map(() => 0);
  const labels = Int32Array.from({ length: BATCH }, (_, k) => (k * 37) % 1000);
  const noise = scope(() => randn([BATCH, SIDE, SIDE, 3]).toTypedArray() as Float32Array);
  pixels.set(noise);
  const batch = { pixels, shape: [BATCH, SIDE, SIDE, 3] as [number, number, number, number], labels };
  for (const record of [false, true]) {
    const step = new TrainStep(model, optimizer, {
      device: "cuda",
      precision,
      accumulate: 1,
      clip: 5,
      labelSmoothing: 0.1,
      record,
      warn: (message) => console.log(`  ${message}`),
    });
    // as a training loop does it: the next batch is copied while the step runs
    const finish = () => {
      const read = step.start(batch);
      step.prepare(batch);
      read();
    };
    rows.push(
      measureSteps(
        "models",
        `${variant} ${precision} training step${record ? ", recorded" : ""}`,
        finish,
        BATCH,
      ),
    );
    if (record && !step.recorded) rows[rows.length - 1].note = "NOT RECORDED";
    if (profile && !record) {
      synchronize();
      const costs = profileOnDevice(finish);
      const total = costs.reduce((sum, c) => sum + c.milliseconds, 0);
      console.log(`\n  ${variant} ${precision}: ${total.toFixed(2)} ms in kernels`);
      for (const { name, calls, milliseconds, bytes } of costs.slice(0, 30))
        console.log(
          `    ${name.padEnd(24)} ${String(calls).padStart(4)} calls ${milliseconds.toFixed(3).padStart(8)} ms  ${((100 * milliseconds) / total).toFixed(1).padStart(5)} %  ${(bytes / 2 ** 30).toFixed(2).padStart(7)} GiB  ${(bytes / milliseconds / 1e6).toFixed(0).padStart(5)} GB/s`,
        );
    }
    step.dispose();
  }
  optimizer.dispose();
  model.eval();
  const images = scope(() =>
    randn([BATCH, SIDE, SIDE, 3], { device: "cuda" }).to(precision === "bf16" ? "bfloat16" : "float32"),
  ).keep();
  rows.push(
    measureSteps(
      "models",
      `${variant} ${precision} forward`,
      () => scope(() => void noGrad(() => model.forward(images))),
      BATCH,
    ),
  );
  images.dispose();
  model.dispose();
  return rows;
}
