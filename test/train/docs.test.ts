import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../lib/native/addon.js";
import { configSchema } from "../../lib/train/config.js";
import { PRESETS } from "../../lib/train/index.js";

const docs = suite("docs/training.md");
const text = readFileSync(join(packageRoot(), "docs/training.md"), "utf8");

docs("describes every key of the configuration in the words of its schema, and every preset", () => {
  const rows = [...text.matchAll(/^\| `(\w+)` \|/gm)].map(([, key]) => key);
  const keys = Object.keys(configSchema.shape) as (keyof typeof configSchema.shape)[];
  assert.equal(
    rows.filter((row) => keys.includes(row as never)),
    keys,
  );
  for (const key of keys)
    assert.ok(text.includes(configSchema.shape[key].description as string), `the description of ${key}`);
  for (const preset of Object.keys(PRESETS)) assert.ok(text.includes(`\`${preset}\``), preset);
});

docs.run();
