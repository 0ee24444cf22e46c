import type { Fault, Path } from "./faults.ts";
import { hasTwin, listOptions, type Option } from "./options.ts";
import { didYouMean, suggestName } from "./suggest.ts";

/** A value that an environment variable or a flag gives to an option. */
export interface Assignment {
  readonly path: Path;
  readonly value: unknown;
  /** The variable's or flag's name. */
  readonly where: string;
}

/** Values by option, shorter paths first, and what was wrong with the texts. */
export interface Assignments {
  readonly values: readonly Assignment[];
  readonly faults: readonly Fault[];
}

/** Variables that start with HUBWIRE_ but are not the twin of an option. */
const OTHER_VARIABLES: readonly string[] = [
  "HUBWIRE_CONFIG",
  "HUBWIRE_CONNECTION_STRING",
  "HUBWIRE_LAUNCHER_PID",
  "HUBWIRE_PROCESS",
];
const PREFIX = "HUBWIRE_";
const TEST_PREFIX = "HUBWIRE_TEST_";

/** The environment twin of an option: `listen.reusePort` is `HUBWIRE_LISTEN_REUSE_PORT`. */
export function environmentName(option: Option): string {
  return `${PREFIX}${words(option).join("_").toUpperCase()}`;
}

/** The flag twin of an option, without dashes in front: `listen.reusePort` is `listen-reuse-port`. */
export function flagName(option: Option): string {
  return words(option).join("-");
}

/** Options that have twins, by flag name. */
export function flagTwins(): ReadonlyMap<string, Option> {
  return FLAG_TWINS;
}

const FLAG_TWINS: ReadonlyMap<string, Option> = new Map(
  listOptions()
    .filter(hasTwin)
    .map((option) => [flagName(option), option]),
);

const ENVIRONMENT_TWINS: ReadonlyMap<string, Option> = new Map(
  listOptions()
    .filter(hasTwin)
    .map((option) => [environmentName(option), option]),
);

function words(option: Option): string[] {
  return option.path
    .map((key) => key.replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`))
    .flatMap((key) => key.split("-"));
}

/**
 * Reads every `HUBWIRE_…` variable.
 *
 * An empty variable counts as not set: compose files and shells leave such behind where a value is missing. An unknown one
 * is a fault, since a mistyped name would otherwise be ignored.
 */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>): Assignments {
  const values: Assignment[] = [];
  const faults: Fault[] = [];
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || name.startsWith(TEST_PREFIX) || OTHER_VARIABLES.includes(name)) continue;
    const option = ENVIRONMENT_TWINS.get(name);
    if (option === undefined) {
      const near = suggestVariable(name);
      faults.push({ path: name, message: `no such environment variable${didYouMean(near)}`, where: name });
    } else if (text !== undefined && text !== "") {
      assign(option, text, name, values, faults);
    }
  }
  return { values: shortestFirst(values), faults };
}

function suggestVariable(name: string): string | null {
  const known = [...ENVIRONMENT_TWINS.keys(), ...OTHER_VARIABLES].map((known) => known.slice(PREFIX.length));
  const near = suggestName(name.slice(PREFIX.length), known, "_");
  return near === null ? null : `${PREFIX}${near}`;
}

/** Reads flag twins: texts by flag name without dashes, as `parseArgs` gives them. An unknown name is a fault. */
export function readFlags(flags: Readonly<Record<string, string>>): Assignments {
  const values: Assignment[] = [];
  const faults: Fault[] = [];
  for (const [name, text] of Object.entries(flags)) {
    const option = FLAG_TWINS.get(name);
    const where = `--${name}`;
    if (option === undefined) faults.push({ path: where, message: "no such flag", where });
    else assign(option, text, where, values, faults);
  }
  return { values: shortestFirst(values), faults };
}

/** A block's JSON comes before its leaves' own twins, so that the more exact name wins. */
function shortestFirst(values: Assignment[]): Assignment[] {
  return values.sort((a, b) => a.path.length - b.path.length);
}

function assign(option: Option, text: string, where: string, values: Assignment[], faults: Fault[]): void {
  const value = parseText(option, text);
  if (value === NOT_JSON) {
    const shape = option.kind === "list" ? "a list" : "an object";
    faults.push({ path: option.path.join("."), message: `must be JSON: ${shape}`, where });
  } else {
    values.push({ path: option.path, value, where });
  }
}

const NOT_JSON = Symbol("not JSON");

/** Turns a text into what the file would hold. A value that fits no type stays text: the schema then says what is expected. */
function parseText(option: Option, text: string): unknown {
  if (option.nullable && text === "null") return null;
  switch (option.kind) {
    case "integer":
    case "number":
      return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "block":
    case "list":
    case "map":
      try {
        const value: unknown = JSON.parse(text);
        return value;
      } catch {
        return NOT_JSON;
      }
    default:
      return text;
  }
}
