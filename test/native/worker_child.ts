/** Ops of several kinds, forward and backward, for the number of steps that worker.test.ts asks for. */
import { parentPort, workerData } from "node:worker_threads";
import {
  conv2d,
  gelu,
  layerNorm,
  manualSeed,
  matmul,
  memory,
  ones,
  randn,
  scope,
  sum,
  type Tensor,
} from "../../lib/index.js";

const { seed, steps, leave } = workerData as { seed: number; steps: number; leave?: boolean };

manualSeed(seed);
const kept: Tensor[] = [];
let checksum = 0;
for (let step = 0; step < steps; step++)
  checksum += scope(() => {
    const [x, w] = [randn([32, 48], { requiresGrad: true }), randn([48, 48])];
    const image = conv2d(randn([1, 8, 8, 4]), randn([6, 4, 3, 3]), null, { padding: 1 });
    const loss = sum(gelu(layerNorm(matmul(x, w)))).add(sum(image));
    loss.backward();
    return loss.item() + sum(x.grad as Tensor).item();
  });
if (leave) kept.push(ones([1000]), randn([10, 10]));
parentPort?.postMessage({ checksum, live: memory.liveTensors });
