import type { z } from "zod";
import { knownKeysAt, listOptions, optionName } from "./options.ts";
import { didYouMean, suggestName } from "./suggest.ts";

/** The place of a value in a configuration: keys and list positions from the top. */
export type Path = readonly (string | number)[];

/**
 * One fault of a configuration.
 *
 * It holds no value of any key, since values may be secrets.
 */
export interface Fault {
  /** As in `upstreams[0].timeoutMs`; the variable's or flag's name where no such key exists; empty for the whole file. */
  readonly path: string;
  readonly message: string;
  /** `line 3, column 9`, `HUBWIRE_LISTEN_PORT` or `--listen-port`; null where it is not known. */
  readonly where: string | null;
}

/** A fault found in the tree of values, before its place in the file is looked up. */
export interface TreeFault {
  readonly path: Path;
  readonly message: string;
}

/** A configuration that cannot be used, with every fault it has. `message` is the report to print. */
export class ConfigError extends Error {
  readonly faults: readonly Fault[];

  constructor(source: string, faults: readonly Fault[]) {
    super(formatReport(source, faults));
    this.name = "ConfigError";
    this.faults = faults;
  }
}

function formatReport(source: string, faults: readonly Fault[]): string {
  const lines = faults.map(({ path, message, where }) => {
    const subject = path === "" ? "" : `${path}: `;
    return `  ${subject}${message}${where === null || where === path ? "" : ` (${where})`}`;
  });
  return [`${source} has ${faults.length} ${faults.length === 1 ? "fault" : "faults"}:`, ...lines].join("\n");
}

/** Formats a path for people: `upstreams[0].timeoutMs`, `hubs["a.b"].anonymous`. */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    if (!/^[A-Za-z_][A-Za-z0-9_-]*$/.test(key)) return `${text}[${JSON.stringify(shorten(key))}]`;
    return text === "" ? shorten(key) : `${text}.${shorten(key)}`;
  }, "");
}

/** A key can be any text; the report stays readable. Hub names, the longest true keys, fit. */
function shorten(key: string): string {
  return key.length <= 128 ? key : `${key.slice(0, 128)}…`;
}

/** Turns what the schema says of a value into sentences. `root` is the tree that was checked. */
export function describeIssue(issue: z.core.$ZodIssue, root: unknown): TreeFault[] {
  const path = issue.path.map((key) => (typeof key === "number" ? key : String(key)));
  if (issue.code === "unrecognized_keys") {
    const known = knownKeysAt(path, valueAt(root, path));
    return issue.keys.map((key) => ({ path: [...path, key], message: unknownKeyMessage(key, known, path) }));
  }
  return [{ path, message: issueMessage(issue, valueAt(root, path)) }];
}

function unknownKeyMessage(key: string, known: readonly string[], path: Path): string {
  const near = suggestName(key, known, ".");
  if (near !== null || path.length > 0) return `no such key${didYouMean(near)}`;
  const everywhere = listOptions().map(optionName);
  return `no such key${didYouMean(suggestName(key, everywhere, "."))}`;
}

function issueMessage(issue: z.core.$ZodIssue, value: unknown): string {
  if (value === undefined) return "is required";
  switch (issue.code) {
    case "invalid_type":
      return value === null
        ? `is empty; give it a value (${expectation(issue.expected)}) or leave the key out`
        : `must be ${expectation(issue.expected)}`;
    case "too_small":
      return issue.origin === "string" || issue.origin === "array"
        ? "must not be empty"
        : `must be at least ${issue.minimum}`;
    case "too_big":
      if (issue.origin === "array") return `must have at most ${issue.maximum} items`;
      return `must be at most ${issue.maximum}`;
    case "invalid_value":
      return `must be ${formatChoices(issue.values)}`;
    case "invalid_key":
      return issue.issues[0]?.message ?? "is not a valid key";
    case "invalid_union": {
      // Set for a union that a key decides (`auth.type`), though zod's type does not say so.
      const options: unknown = Reflect.get(issue, "options");
      return Array.isArray(options) ? `must be ${formatChoices(options)}` : issue.message;
    }
    default:
      return issue.message;
  }
}

function formatChoices(values: readonly unknown[]): string {
  const names = values.map(String);
  return names.length === 1 ? String(names[0]) : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

function expectation(expected: string): string {
  const words: Readonly<Record<string, string>> = {
    int: "a whole number",
    number: "a number",
    string: "text",
    boolean: "true or false",
    array: "a list",
    object: "a block of keys",
    record: "a block of keys",
    null: "null",
  };
  return words[expected] ?? expected;
}

/** The value at a path of a tree of objects and lists; undefined if a step of the path is missing. */
export function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string | number, unknown>)[key];
  }
  return value;
}
