/**
 * A small convolutional network on MNIST, written by hand: model, batches and loop, nothing hidden. One epoch, about 98 %.
 * Run: node dist/examples/cnn_mnist.js
 */
import { batchOf, epochOrder, loadDataset, preparationFor } from "../lib/data/index.js";
import { AdamW, crossEntropy, manualSeed, nn, noGrad, relu, scope, type Tensor } from "../lib/index.js";

class Net extends nn.Module {
  conv1 = new nn.Conv2d(1, 16, 3, { stride: 2, padding: 1 });
  conv2 = new nn.Conv2d(16, 32, 3, { stride: 2, padding: 1 });
  fc1 = new nn.Linear(7 * 7 * 32, 64);
  fc2 = new nn.Linear(64, 10);

  forward(images: Tensor): Tensor {
    const x = relu(this.conv2.forward(relu(this.conv1.forward(images))));
    return this.fc2.forward(relu(this.fc1.forward(x.reshape([x.shape[0], -1]))));
  }
}

manualSeed(0);
const { train, test } = await loadDataset("mnist");
const prepare = preparationFor(train, { size: 28 });
const net = new Net();
const optimizer = new AdamW(net.parameters(), { lr: 2e-3 });

const order = epochOrder(train.count, 0, 0);
const BATCH = 100;
for (let begin = 0; begin < train.count; begin += BATCH) {
  const loss = scope(() => {
    const { images, labels } = batchOf(train, order.subarray(begin, begin + BATCH), prepare);
    const loss = crossEntropy(net.forward(images), labels);
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss.item();
  });
  if (begin % 10_000 === 0) console.log(`image ${begin}: loss ${loss.toFixed(4)}`);
}

const correct = scope(() => {
  const samples = Array.from({ length: test.count }, (_, k) => k);
  const { images, labels } = batchOf(test, samples, prepare);
  const predicted = noGrad(() => net.forward(images)).argmax(1);
  return predicted.eq(labels.to("int64")).sum().item();
});
console.log(`test accuracy ${((100 * correct) / test.count).toFixed(2)} %`);
net.dispose();
