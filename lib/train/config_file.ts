import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { ConfigError, FileError } from "../util/errors.js";

/** The keys of a YAML or JSON file (JSON is YAML). */
export function readConfigFile(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new FileError("config", `${path} could not be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new ConfigError("config", `${path}: ${(error as Error).message.split("\n")[0]}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new ConfigError("config", `${path} holds no keys`, "key: value lines");
  return value as Record<string, unknown>;
}
