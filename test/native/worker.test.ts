/** Worker threads: each has its own handles and counters, and one that is terminated in the middle of its work takes nothing along. */
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { matmul, memory, scope, tensor } from "../../lib/index.js";

const test = suite("worker threads");
const script = fileURLToPath(new URL("./worker_child.js", import.meta.url));

interface Result {
  checksum: number;
  live: number;
}
function sane(): boolean {
  return scope(() => matmul(tensor([[1, 2]]), tensor([[3], [4]])).item()) === 11;
}

test("three workers run 200 ops each, a fourth is terminated on its way", async () => {
  const before = memory();
  const workers = [1, 2, 3].map((seed) => new Worker(script, { workerData: { seed, steps: 200 } }));
  const endless = new Worker(script, { workerData: { seed: 4, steps: 1e9 } });
  const results = workers.map(async (worker) => {
    const [result] = (await once(worker, "message")) as [Result];
    await once(worker, "exit");
    return result;
  });
  await once(endless, "online");
  await new Promise((resolve) => setTimeout(resolve, 50));
  // the main thread computes meanwhile
  for (let k = 0; k < 50; k++) assert.ok(sane());
  await endless.terminate();
  const done = await Promise.all(results);
  assert.equal(
    done.map(({ live }) => live),
    [0, 0, 0],
  );
  assert.ok(done.every(({ checksum }) => Number.isFinite(checksum)));
  assert.is(new Set(done.map(({ checksum }) => checksum)).size, 3, "each seed gives numbers of its own");
  assert.ok(memory.liveTensors <= before.liveTensors, "workers count for themselves");
  assert.ok(sane());
});

test("the same seed gives the same bits in every worker", async () => {
  const checksums = await Promise.all(
    [7, 7].map(async (seed) => {
      const worker = new Worker(script, { workerData: { seed, steps: 20 } });
      const [result] = (await once(worker, "message")) as [Result];
      await once(worker, "exit");
      return result.checksum;
    }),
  );
  assert.is(checksums[0], checksums[1]);
});

test("workers that end with live tensors free them", async () => {
  for (let k = 0; k < 5; k++) {
    const worker = new Worker(script, { workerData: { seed: k, steps: 3, leave: true } });
    await once(worker, "exit");
  }
  assert.ok(sane());
});

test.run();
