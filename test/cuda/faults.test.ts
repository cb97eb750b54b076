/**
 * What goes wrong on a GPU: bad values are found while the host goes on, so the error comes where it next waits; wrong devices
 * are found at once.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  add,
  createQuadMamba,
  crossEntropy,
  cudaInfo,
  DeviceError,
  gather,
  IndexError,
  indexSelect,
  linear,
  matmul,
  memory,
  NativeError,
  nn,
  oneHot,
  ones,
  rand,
  scatterAdd,
  scope,
  selectiveScan,
  sum,
  synchronize,
  type Tensor,
  tensor,
  where,
  zeros,
} from "../../lib/index.js";
import { addon, translate } from "../../lib/native/addon.js";
import { deviceCode } from "../../lib/tensor/tensor.js";
import { on } from "../helpers/devices.js";
import { leakFree, thrown } from "../helpers/leaks.js";

const faults = suite("faults");
const device = "cuda";
const int = (data: number[], dtype: "int32" | "int64" = "int64"): Tensor => tensor(data, { dtype, device });
const onGpu = (...shape: number[]): Tensor => ones(shape, { device });

function scan(order: number[]): Tensor {
  const [u, A, B] = [onGpu(1, 5, 4), onGpu(4, 2), onGpu(1, 5, 1, 2)];
  return selectiveScan(u, u, A, B, B, { order: int(order, "int32") });
}

const BAD_VALUES: [what: string, call: () => Tensor][] = [
  ["a label too large", () => crossEntropy(onGpu(2, 3), int([0, 3]))],
  ["a negative label", () => crossEntropy(onGpu(2, 3), int([-1, 0], "int32"))],
  ["an index of gather too large", () => gather(onGpu(2, 3), 1, int([3]).reshape([1, 1]))],
  ["a negative index of gather", () => gather(onGpu(2, 3), 1, int([-1], "int32").reshape([1, 1]))],
  ["an index of indexSelect too large", () => indexSelect(onGpu(2, 3), 0, int([0, 2]))],
  ["a negative index of indexSelect", () => indexSelect(onGpu(2, 3), 0, int([-1, 0], "int32"))],
  ["an index of scatterAdd too large", () => scatterAdd(onGpu(2), 0, int([0, 2]), onGpu(2))],
  ["an index past the classes", () => oneHot(int([0, 3]), 3, { device })],
  ["an order that names a token twice", () => scan([0, 1, 2, 3, 3])],
  ["an order past the end", () => scan([0, 1, 2, 3, 5])],
  ["a negative order", () => scan([0, 1, 2, 3, -1])],
];

/** Ordinary work, with its right result: the device goes on, and the error does not come again. */
function expectHealthy(what: string): void {
  synchronize(device);
  assert.is(sum(add(onGpu(1000), 1)).item(), 2000, `after ${what}`);
}

for (const [what, call] of BAD_VALUES)
  on(
    faults,
    device,
    `${what} is an IndexError at the next read`,
    leakFree(() => {
      const result = call();
      thrown(() => result.toTypedArray(), IndexError, what);
      expectHealthy(what);
    }),
  );

on(
  faults,
  device,
  "item, toArray, to and synchronize wait and throw, whatever they read",
  leakFree(() => {
    const waits: [string, (t: Tensor) => unknown][] = [
      ["item", (t) => t.item()],
      ["toArray", (t) => t.toArray()],
      ["toTypedArray", (t) => t.toTypedArray()],
      ["to", (t) => t.to("cpu")],
      ["synchronize", () => synchronize(device)],
    ];
    for (const [what, wait] of waits) {
      const right = onGpu(1);
      indexSelect(onGpu(2, 3), 0, int([7]));
      const { message } = thrown(() => wait(right), IndexError, what);
      assert.match(message, /\b7\b/, "the error names the value");
      expectHealthy(what);
    }
  }),
);

on(
  faults,
  device,
  "of several bad values the first is reported, once",
  leakFree(() => {
    indexSelect(onGpu(2, 3), 0, int([7]));
    indexSelect(onGpu(2, 3), 0, int([9]));
    assert.match(thrown(() => synchronize(device), IndexError).message, /\b7\b/);
    expectHealthy("two bad values");
  }),
);

on(
  faults,
  device,
  "tensors on different devices are refused by the call",
  leakFree(() => {
    const [here, there] = [ones([2, 2]), onGpu(2, 2)];
    const calls: [string, () => unknown][] = [
      ["add", () => add(here, there)],
      ["add, the other way", () => add(there, here)],
      ["matmul", () => matmul(there, here)],
      ["linear with a weight on the CPU", () => linear(there, here)],
      ["where with a condition on the CPU", () => where(ones([2, 2], { dtype: "bool" }), there, there)],
      ["crossEntropy with labels on the CPU", () => crossEntropy(there, zeros([2], { dtype: "int64" }))],
      ["indexSelect with an index on the CPU", () => indexSelect(there, 0, zeros([1], { dtype: "int64" }))],
    ];
    for (const [what, call] of calls) {
      const { message } = thrown(call, DeviceError, what);
      assert.match(message, /different devices/);
    }
    expectHealthy("mixed devices");
  }),
);

on(
  faults,
  device,
  "a model and images on different devices are refused",
  leakFree(() => {
    const model = createQuadMamba({ dims: 8, depths: [1, 1, 1, 1], inChannels: 1, numClasses: 4 });
    const images = ones([1, 8, 8, 1]);
    thrown(() => model.forward(images.to(device)), DeviceError);
    model.to(device);
    thrown(() => model.forward(images), DeviceError);
    model.dispose();
  }),
);

/** Not the CPU instead, ever. */
function refusesCuda(): void {
  const { reason } = cudaInfo() as { reason: string };
  const layer = new nn.Linear(2, 2);
  const calls: [string, () => unknown][] = [
    ["tensor", () => tensor([1, 2], { device })],
    ["zeros", () => zeros([2], { device })],
    ["rand", () => rand([2], { device })],
    ["oneHot", () => oneHot(zeros([1], { dtype: "int64" }), 2, { device })],
    ["to", () => ones([2]).to(device)],
    ["Module.to", () => layer.to(device)],
    ["memory", () => memory(device)],
    ["memory.setBudget", () => memory.setBudget(1, device)],
    ["memory.resetPeak", () => memory.resetPeak(device)],
    ["memory.emptyCache", () => memory.emptyCache(device)],
    ["synchronize", () => synchronize(device)],
  ];
  for (const [what, call] of calls) {
    const { message } = thrown(call, DeviceError, what);
    assert.ok(message.includes(reason), `${what} gives the reason: ${message}`);
  }
  assert.ok(layer.parameters().every((t) => t.device === "cpu" && !t.disposed));
  layer.dispose();
}
if (cudaInfo().available)
  faults("a launch that fails names the kernel and its sizes, and the device goes on", () => {
    const { message } = thrown(
      () => {
        try {
          addon.badLaunch(deviceCode(device));
        } catch (error) {
          throw translate("test", error);
        }
      },
      NativeError,
      "a block of 4096 threads",
    );
    assert.match(message, /planted_kernel with grid 1 x 1 x 1, block 4096 x 1 x 1/);
    assert.is(
      scope(() => sum(onGpu(3)).item()),
      3,
    );
  });

if (cudaInfo().available) faults.skip("asking for cuda where there is none is a DeviceError");
else faults("asking for cuda where there is none is a DeviceError", leakFree(refusesCuda));

faults.run();
