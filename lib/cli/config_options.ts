/** The configuration's keys as flags: one for each key that holds a single value, and --set for all of them. */
import { InvalidArgumentError, Option } from "commander";
import { parse } from "yaml";
import { z } from "zod";
import { configSchema } from "../train/config.js";
import { positiveNumber, wholeNumber } from "./options.js";

/** What z.toJSONSchema says of a key. */
interface Property {
  type?: string;
  enum?: string[];
  anyOf?: Property[];
  minimum?: number;
  default?: unknown;
  description?: string;
}

export function configOptions(): Option[] {
  const { properties } = z.toJSONSchema(configSchema, { io: "input" });
  return Object.entries(properties as Record<string, Property>).flatMap(([key, property]) => {
    const option = optionOf(key, property);
    return option ? [option.helpGroup("Keys of the configuration:")] : [];
  });
}

function optionOf(key: string, property: Property): Option | undefined {
  const name = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const { type, default: value } = property;
  const text = `${property.description?.replace(/\.$/, "")}${value === undefined ? "" : ` (default: ${value})`}`;
  if (type === "boolean") return new Option(value === true ? `--no-${name}` : `--${name}`, text);
  if (property.enum) return new Option(`--${name} <name>`, text).choices(property.enum);
  if (type === "integer")
    return new Option(`--${name} <n>`, text).argParser(wholeNumber(property.minimum ?? 0));
  if (type === "number") return new Option(`--${name} <x>`, text).argParser(positiveNumber);
  if (type === "string") return new Option(`--${name} <text>`, text);
  if (property.anyOf) return new Option(`--${name} <value>`, text).argParser(readValue);
  return undefined; // lists and objects
}

/** `--set`, which may be given several times. */
export function setOption(): Option {
  return new Option(
    "--set <key=value>",
    "any key, also within another, such as augment.mixup=0.8 (several times)",
  ).argParser((text: string, before: Record<string, unknown> = {}) => {
    const [, path, value] = /^([\w.]+)=(.*)$/s.exec(text) ?? [];
    if (path === undefined) throw new InvalidArgumentError("expected KEY=VALUE.");
    return merged(before, path.split("."), readValue(value));
  });
}

/** `keys` with a value put at a path of names. */
function merged(
  keys: Record<string, unknown>,
  [key, ...rest]: string[],
  value: unknown,
): Record<string, unknown> {
  if (rest.length === 0) return { ...keys, [key]: value };
  const inner = keys[key];
  return {
    ...keys,
    [key]: merged(inner !== null && typeof inner === "object" ? { ...inner } : {}, rest, value),
  };
}

/** A value as a configuration file has it. */
function readValue(text: string): unknown {
  try {
    return parse(text);
  } catch {
    throw new InvalidArgumentError("expected a value as in a YAML file.");
  }
}
