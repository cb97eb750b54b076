/** GPU memory: its counters, its cache, its budget, its end, and that training does not use more and more of it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  add,
  type CudaInfo,
  cudaInfo,
  memory,
  OutOfMemoryError,
  scope,
  sum,
  type Tensor,
  zeros,
} from "../../lib/index.js";
import { addonInfo } from "../../lib/native/addon.js";
import { on } from "../helpers/devices.js";
import { leakFree, thrown } from "../helpers/leaks.js";
import { TinyTraining } from "../helpers/tiny_training.js";

const gpu = suite("GPU memory");
const device = "cuda";
const MIB = 2 ** 20;
/** float32 zeros. */
function allocate(bytes: number): Tensor {
  return zeros([bytes / 4], { device });
}
const live = () => memory(device).liveBytes;
/** Memory of this size can be had and used. */
function expectRoom(bytes: number): void {
  scope(() => assert.is(sum(allocate(bytes)).item(), 0));
}

on(
  gpu,
  device,
  "live and peak bytes count what tensors hold, apart from the CPU's",
  leakFree(() => {
    const [before, onCpu] = [live(), memory.liveBytes];
    memory.resetPeak(device);
    assert.is(memory(device).peakBytes, before);
    const x = allocate(3 * MIB);
    const y = x.reshape([3, -1]);
    assert.is(live() - before, 3 * MIB, "a reshaped tensor shares its storage");
    const z = allocate(MIB);
    z.dispose();
    x.dispose();
    assert.is(live() - before, 3 * MIB);
    y.dispose();
    assert.is(live(), before);
    assert.is(memory(device).peakBytes - before, 4 * MIB);
    memory.resetPeak(device);
    assert.is(memory(device).peakBytes, before);
    assert.is(memory.liveBytes, onCpu);
  }),
);

on(
  gpu,
  device,
  "freed memory is kept and used again, until emptyCache gives it back",
  leakFree(() => {
    memory.emptyCache(device);
    const before = memory(device).cachedBytes;
    allocate(256 * MIB).dispose();
    const kept = memory(device).cachedBytes;
    assert.ok(kept >= before + 256 * MIB, `${kept} bytes kept, before ${before}`);
    allocate(256 * MIB).dispose();
    assert.is(memory(device).cachedBytes, kept, "the second one takes what the first one left");
    memory.emptyCache(device);
    assert.ok(memory(device).cachedBytes <= kept - 256 * MIB);
    expectRoom(MIB);
  }),
);

on(
  gpu,
  device,
  "past the budget an allocation is an OutOfMemoryError, and a smaller one succeeds",
  leakFree(() => {
    const { budget } = memory(device);
    try {
      memory.setBudget(live() + 8 * MIB, device);
      const before = live();
      const { message } = thrown(() => allocate(16 * MIB), OutOfMemoryError);
      assert.match(message, /cuda/, "the error names the device");
      assert.match(message, new RegExp(`${16 * MIB}`), "and the request");
      assert.is(live(), before);
      const x = allocate(3 * MIB);
      thrown(() => add(x, allocate(3 * MIB)), OutOfMemoryError, "the result of an op");
      expectRoom(MIB);
    } finally {
      memory.setBudget(budget, device);
    }
  }),
);

on(
  gpu,
  device,
  "past the GPU's memory it is one too, and the next smaller allocation succeeds",
  leakFree(() => {
    const before = live();
    const { memory: bytes } = cudaInfo() as Extract<CudaInfo, { available: true }>;
    const whole = Math.ceil(bytes / MIB) * MIB;
    thrown(() => allocate(2 * whole), OutOfMemoryError, "twice the memory");
    expectRoom(MIB);

    const part = Math.ceil(whole / 8 / MIB) * MIB;
    scope(() => {
      const taken: Tensor[] = [];
      thrown(
        () => {
          for (let k = 0; k < 9; k++) taken.push(allocate(part));
        },
        OutOfMemoryError,
        "nine eighths of the memory",
      );
      assert.is(live() - before, taken.length * part);
      taken.pop()?.dispose();
      expectRoom(part / 2);
    });
    memory.emptyCache(device);
    assert.is(live(), before);
  }),
);

on(gpu, device, "live bytes are the same after every one of 1000 training steps", () => {
  const steps = addonInfo.sanitized ? 100 : 1000;
  const training = new TinyTraining({ device });
  for (let k = 0; k < 10; k++) training.step();
  const { liveBytes, liveTensors, cachedBytes } = memory(device);
  for (let k = 0; k < steps; k++) {
    training.step();
    assert.is(memory(device).liveBytes, liveBytes);
    assert.is(memory(device).liveTensors, liveTensors);
  }
  assert.ok(memory(device).cachedBytes <= cachedBytes, "nor does the cache grow");
  training.dispose();
});

gpu.run();
