/** Every instruction set that this processor has, in a process of its own, against the float64 references. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addonInfo } from "../../lib/native/addon.js";

const test = suite("instruction sets");
const script = fileURLToPath(new URL("./isa_child.js", import.meta.url));
const run = (isa: string) =>
  spawnSync(process.execPath, [script], { env: { ...process.env, QUADMAMBA_ISA: isa }, encoding: "utf8" });

for (const isa of addonInfo.supported)
  test(isa, () => {
    const { status, stdout, stderr } = run(isa);
    assert.is(status, 0, `${stdout}\n${stderr}`);
    assert.is(stdout.trim(), isa);
  });

test("baseline is always there", () => assert.ok(addonInfo.supported.includes("baseline")));

test("the one in use is one of them", () => assert.ok(addonInfo.supported.includes(addonInfo.isa)));

test("an unknown one is refused with the names of those there are", () => {
  const { status, stderr } = run("avx1024");
  assert.is.not(status, 0);
  assert.match(stderr, /QUADMAMBA_ISA/);
  assert.match(stderr, /avx1024/);
  for (const isa of addonInfo.supported) assert.match(stderr, new RegExp(isa));
});

test.run();
