import { readFileSync } from "node:fs";
import type { ConfigFile, UnreadableFile } from "./yaml-text.ts";

/**
 * Reads a configuration file, YAML or (by its ending `.json`) JSON. `known` is its text where it was read already.
 *
 * Errors: a file that cannot be read or parsed is a value, `UnreadableFile`.
 */
export function readConfigFile(path: string, known: string | null = null): ConfigFile | UnreadableFile {
  let text: string;
  try {
    text = known ?? readFileSync(path, "utf8");
  } catch (error) {
    return { problems: [{ message: `the file ${describeReadError(error)}`, where: null }] };
  }
  return path.toLowerCase().endsWith(".json") ? parseJson(text) : parseYaml(text);
}

/** Says why a file could not be read, as the end of a sentence, without the file's path. */
export function describeReadError(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : null;
  if (code === "ENOENT" || code === "ENOTDIR") return "does not exist";
  if (code === "EACCES" || code === "EPERM") return "may not be read by this user";
  if (code === "EISDIR") return "is a folder";
  return `cannot be read (${String(code)})`;
}

/** JSON is read strictly; the YAML parser then finds repeated keys and places, where they are needed, since JSON is a part of YAML. */
function parseJson(text: string): ConfigFile | UnreadableFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    const asYaml = parseYaml(text);
    const where = "problems" in asYaml ? (asYaml.problems[0]?.where ?? null) : null;
    return { problems: [{ message: "this is not valid JSON", where }] };
  }
  if (countWrittenKeys(text) > countKeys(value)) return parseYaml(text);
  return {
    value,
    locate: (path) => {
      const asYaml = parseYaml(text);
      return "problems" in asYaml ? null : asYaml.locate(path);
    },
    // A part of a JSON text is not JSON.
    emptyKeys: [],
    openEnd: null,
  };
}

/** In valid JSON a string with a colon behind it is a key, and nothing else is. Sticky: no place is looked at twice. */
function countWrittenKeys(json: string): number {
  return [...json.matchAll(/[^"]+|"(?:[^"\\]|\\.)*"\s*(:)?/gy)].filter(([, colon]) => colon !== undefined).length;
}

/** The keys of all objects in a tree of plain values. */
function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const children = Object.values(value);
  const own = Array.isArray(value) ? 0 : children.length;
  return children.reduce((sum: number, child) => sum + countKeys(child), own);
}

/** The YAML parser's 72 files take a tenth of the time that a gateway needs to start: they are loaded only where they are needed. */
function parseYaml(text: string): ConfigFile | UnreadableFile {
  const yaml = require("./yaml-text.ts") as typeof import("./yaml-text.ts");
  return yaml.parseYaml(text);
}
