/**
 * Calls every export of the library with hostile values, or, with the argument `addon`, those of the addon; in a process of its
 * own (see hostile.test.ts). Sends one message per export: the calls that threw something else than a typed error, if any.
 */
import * as qm from "../../lib/index.js";
import { addon } from "../../lib/native/addon.js";
import { baseArguments, EXCLUDED } from "./hostile_arguments.js";
import { attackImages } from "./hostile_images.js";
import { hostileValues, plainValues } from "./hostile_values.js";

const { QuadMambaError } = qm;

export interface Report {
  name: string;
  calls: number;
  /** `argument 1 = NaN: TypeError: ...` */
  failures: string[];
}

type AnyFunction = (...args: unknown[]) => unknown;

function isClass(value: unknown): boolean {
  return typeof value === "function" && /^class\b/.test(Function.prototype.toString.call(value));
}

/** Everything callable: exports, those of the namespaces, and the few methods of Tensor that are no ops. */
function targets(): Map<string, AnyFunction> {
  const found = new Map<string, AnyFunction>();
  const visit = (prefix: string, names: object): void => {
    for (const [name, value] of Object.entries(names)) {
      const full = `${prefix}${name}`;
      // errors format whatever they are given
      if (
        value === qm.QuadMambaError ||
        (typeof value === "function" && value.prototype instanceof qm.QuadMambaError)
      )
        continue;
      if (isClass(value)) found.set(full, (...args) => Reflect.construct(value, args));
      else if (typeof value === "function") found.set(full, value as AnyFunction);
      else if (value !== null && typeof value === "object" && Object.getPrototypeOf(value) === null)
        visit(`${full}.`, value);
    }
  };
  visit("", qm);
  visit("memory.", {
    setBudget: qm.memory.setBudget,
    resetPeak: qm.memory.resetPeak,
    trim: qm.memory.emptyCache,
  });
  for (const name of [
    "backward",
    "item",
    "toArray",
    "toTypedArray",
    "detach",
    "keep",
    "dispose",
    "toString",
  ] as const)
    found.set(`Tensor.${name}`, (...args) =>
      (qm.mul(qm.ones([1], { requiresGrad: true }), 2)[name] as AnyFunction)(...args),
    );
  return found;
}

/** Puts back what a call may have changed. */
function restore(): void {
  qm.setThreads(2);
  qm.memory.setBudget(BUDGET);
  qm.manualSeed(0);
}
/** Little, so that large shapes are refused at once. */
const BUDGET = 2 ** 26;

function sane(): boolean {
  return qm.scope(() => {
    const y = qm.matmul(
      qm.tensor([
        [1, 2],
        [3, 4],
      ]),
      qm.tensor([
        [5, 6],
        [7, 8],
      ]),
    );
    return JSON.stringify(y.toArray()) === "[[19,22],[43,50]]";
  });
}

async function attempt(call: () => unknown): Promise<string | undefined> {
  try {
    let result: unknown;
    qm.scope(() => {
      result = call();
      if (result instanceof qm.nn.Module) result.dispose();
    });
    if (result instanceof Promise) await result;
  } catch (error) {
    if (error instanceof QuadMambaError)
      return error.message.startsWith(": ") ? `no op in ${error.message}` : undefined;
    if (error instanceof Error)
      return `${error.name}: ${error.message.slice(0, 120)} ${error.stack?.split("\n")[1]?.trim() ?? ""}`;
    return `threw ${String(error)}`;
  } finally {
    restore();
  }
  return undefined;
}

async function attack(name: string, target: AnyFunction): Promise<Report> {
  const report: Report = { name, calls: 0, failures: [] };
  const run = async (label: string, makeArguments: () => unknown[]): Promise<void> => {
    report.calls++;
    const problem = await attempt(() => target(...makeArguments()));
    if (problem) report.failures.push(`${label}: ${problem}`);
  };
  const base = baseArguments(name);
  await run("no arguments", () => []);
  await run("its usual arguments", base);
  await run("twenty arguments", () => [...base(), ...new Array<number>(20).fill(3)]);
  for (let place = 0; place < 3; place++)
    for (const { label, make } of hostileValues)
      await run(`argument ${place} = ${label}`, () => {
        const args = base();
        while (args.length <= place) args.push(undefined);
        args[place] = make(args);
        return args;
      });
  if (!sane()) report.failures.push("a product is wrong afterwards");
  return report;
}

/** The addon's own functions with bad records and handles: any Error is right, as long as it is one. */
function attackAddon(): Report {
  const report: Report = { name: "addon", calls: 0, failures: [] };
  const functions = [
    "run",
    "create",
    "view",
    "retain",
    "release",
    "refs",
    "read",
    "write",
    "setBudget",
    "setThreads",
    "jpegSize",
    "jpegPart",
    "resampleColumns",
    "resampleRows",
    "mapFile",
  ] as const;
  const raw = addon as unknown as Record<string, AnyFunction>;
  const run = (label: string, call: () => unknown): void => {
    report.calls++;
    try {
      call();
    } catch (error) {
      if (!(error instanceof Error)) report.failures.push(`${label}: threw ${String(error)}`);
    }
    restore();
  };
  for (const name of functions)
    for (const [a, { label, make }] of plainValues.entries()) {
      run(`${name}(${label})`, () => raw[name](make([])));
      for (const other of plainValues.filter((_, b) => (a + b) % 7 === 0)) {
        run(`${name}(${label}, ${other.label})`, () => raw[name](make([]), other.make([])));
        run(`${name}(0, 0, ${label}, ${other.label})`, () => raw[name](0, 0, make([]), other.make([])));
      }
    }
  attackRecords(run);
  attackImages(report);
  if (!sane()) report.failures.push("a product is wrong afterwards");
  return report;
}

/** Call records that are cut short, name no kernel, too many tensors, dead handles, wrong shapes or wrong attributes. */
function attackRecords(run: (label: string, call: () => unknown) => void): void {
  const numbers = [
    0,
    -1,
    1,
    2,
    6,
    7,
    1.5,
    Number.NaN,
    Infinity,
    -Infinity,
    2 ** 31,
    2 ** 53,
    -(2 ** 63),
    1e308,
  ];
  let state = 12345;
  const next = (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % n;
  };
  const { ops } = addon.describe();
  const live = [
    addon.create(0, 0, Float64Array.of(2, 3), new Float32Array(6)),
    addon.create(2, 0, Float64Array.of(4), new Int32Array(4)),
  ];
  const dead = addon.create(0, 0, Float64Array.of(1), new Float32Array(1));
  addon.release(dead);
  for (let k = 0; k < 10_000; k++) {
    const op = next(ops.length);
    const { inputs, outputs } = ops[op];
    const record: number[] = [op, inputs < 0 ? next(4) : inputs];
    for (let i = 0; i < record[1]; i++)
      record.push([live[0], live[0], live[1], dead, -1, numbers[next(numbers.length)]][next(6)]);
    record.push(outputs < 0 ? next(3) : outputs);
    for (let o = record[record.length - 1]; o > 0; o--) {
      if (next(3) === 0) record.push([live[0], live[1], dead][next(3)]);
      else {
        const rank = next(5);
        record.push(-1, next(7), 0, rank);
        for (let axis = 0; axis < rank; axis++) record.push([0, 1, 2, 3, 4, 2 ** 40][next(6)]);
      }
    }
    for (let a = next(8); a > 0; a--) record.push(next(2) === 0 ? next(5) : numbers[next(numbers.length)]);
    if (next(4) === 0) record[next(record.length)] = numbers[next(numbers.length)];
    addon.record(record.length).set(record);
    run(`record ${record}`, () => addon.run(next(10) === 0 ? next(record.length + 3) : record.length));
  }
  for (const handle of live) addon.release(handle);
}

async function main(): Promise<void> {
  const send = (message: Report | { begin: string }) => process.send?.(message);
  restore();
  if (process.argv[2] === "addon") {
    send({ begin: "addon" });
    send(attackAddon());
  } else
    for (const [name, target] of targets()) {
      if (name in EXCLUDED) continue;
      send({ begin: name });
      send(await attack(name, target));
    }
  process.disconnect?.();
}

await main();
