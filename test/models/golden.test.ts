/** The whole model against float64 goldens of the reference implementation: logits, loss, choices and every gradient. */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  adaptiveAvgPool2d,
  createQuadMamba,
  crossEntropy,
  loadSafetensors,
  type Semantics,
  scope,
  type Tensor,
} from "../../lib/index.js";
import { packageRoot } from "../../lib/native/addon.js";
import { onEach } from "../helpers/devices.js";

const LOGITS = 1e-5;
const GRADIENTS = 1e-4;
const FILES = ["paper_gumbel", "paper_state4", "released_gumbel", "released_plain"];

interface Golden {
  config: {
    dims: number;
    depths: [number, number, number, number];
    ssm_ratio: number;
    ssm_d_state: number;
    ssm_conv_bias: boolean;
    num_classes: number;
  };
  semantics: Semantics;
  tensors: Map<string, Tensor>;
}

function load(name: string): Golden {
  const { tensors, metadata } = loadSafetensors(
    join(packageRoot(), "test/fixtures", `quadmamba_${name}.safetensors`),
  );
  return {
    config: JSON.parse(metadata.get("cfg") as string),
    semantics: metadata.get("semantics") as Semantics,
    tensors,
  };
}

/** max |got - reference| / max |reference| */
function relative(got: Tensor, reference: Tensor): number {
  assert.equal(got.shape, reference.shape);
  const [a, b] = [got, reference].map((t) => t.toTypedArray() as Float32Array);
  let [difference, largest] = [0, 0];
  for (let k = 0; k < a.length; k++) {
    difference = Math.max(difference, Number.isNaN(a[k]) ? Infinity : Math.abs(a[k] - b[k]));
    largest = Math.max(largest, Math.abs(b[k]));
  }
  return largest === 0 ? difference : difference / largest;
}

/** The named part of the file's tensors, without the prefix. */
function part(tensors: Map<string, Tensor>, prefix: string): Map<string, Tensor> {
  return new Map(
    [...tensors]
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, t]) => [name.slice(prefix.length), t]),
  );
}

const goldens = suite("goldens");

for (const name of FILES) {
  for (const dtype of ["float32", "float64"] as const) {
    onEach(goldens, `${name}, ${dtype}`, (device) =>
      scope(() => {
        const { config, semantics, tensors } = load(name);
        const model = createQuadMamba({
          dims: config.dims,
          depths: config.depths,
          ssmRatio: config.ssm_ratio,
          stateSize: config.ssm_d_state,
          convBias: config.ssm_conv_bias,
          numClasses: config.num_classes,
          semantics,
        });
        model.loadStateDict(part(tensors, "param."));
        model.to(dtype).to(device);
        const noise = [...part(tensors, "quad.")]
          .filter(([key]) => key.endsWith(".noise"))
          .sort(([a], [b]) => (a < b ? -1 : 1));
        const images = tensors.get("input")!.cast(dtype).permute([0, 2, 3, 1]).to(device);
        images.requiresGrad = true;
        const watched: string[] = [];
        const unwatch = model.watchPartitions(({ stage, block, scores, choice }) => {
          const key = `quad.${stage - 1}.${block}`;
          watched.push(key);
          assert.equal(choice.toArray(), tensors.get(`${key}.choice`)!.toArray());
          const pooled = adaptiveAvgPool2d(scores, 2).reshape([-1, 4]).cast("float32");
          assert.ok(relative(pooled, tensors.get(`${key}.logits`)!) < LOGITS, `${key}: scores`);
        });
        const logits = model.forward(images, {
          partitionNoise: noise.map(([, t]) => t.to(device)),
        });
        unwatch();
        assert.equal(watched, ["quad.0.0", "quad.0.1", "quad.1.0", "quad.1.1"]);
        const loss = crossEntropy(logits, tensors.get("target")!.to(device));
        loss.backward();

        const check = (what: string, got: Tensor, key: string, limit: number): void => {
          const error = relative(got.cast("float32"), tensors.get(key)!);
          assert.ok(error < limit, `${what}: relative error ${error.toExponential(2)}, limit ${limit}`);
        };
        check("logits", logits, "logits", LOGITS);
        check("loss", loss.reshape([1]), "loss", LOGITS);
        check("input", images.grad!.permute([0, 3, 1, 2]), "grad.input", GRADIENTS);
        for (const [key, t] of model.namedParameters()) check(key, t.grad!, `grad.${key}`, GRADIENTS);
        model.dispose();
      }),
    );
  }
}

goldens.run();
