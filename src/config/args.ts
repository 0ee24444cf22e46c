import type { Option } from "./options.ts";
import { didYouMean, suggestName } from "./suggest.ts";
import { flagTwins } from "./twins.ts";

/** Flag twins given on the command line: texts by name without dashes, as `loadConfig` takes them. */
export type FlagTexts = Readonly<Record<string, string>>;

/** What the command line asks for. */
export type Command =
  | {
      readonly name: "start";
      readonly configFile: string | null;
      readonly example: string | null;
      readonly flags: FlagTexts;
    }
  | { readonly name: "check"; readonly configFile: string | null; readonly flags: FlagTexts }
  | {
      readonly name: "token";
      readonly configFile: string | null;
      readonly hub: string;
      readonly user: string;
      readonly ttlSeconds: number;
    }
  | { readonly name: "send" }
  | { readonly name: "version" }
  /** `--help`: the text to print on standard output. */
  | { readonly name: "help"; readonly text: string };

/** A command line that cannot be understood; `message` is the sentence to print, and the exit code is 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}

/** What `hubwire send` answers in this version. */
export const SEND_IS_LATER = "hubwire send comes with the REST API in a later version";

const DEFAULT_TTL_SECONDS = 3600;
const MAX_TTL_SECONDS = 31_536_000;

/** One flag: what its value is called in the help, and whether a bare `--flag` means true. */
interface Flag {
  readonly value: string;
  readonly doc: string;
  readonly isSwitch: boolean;
}

interface CommandShape {
  readonly summary: string;
  readonly flags: ReadonlyMap<string, Flag>;
  /** Whether every option's flag twin is taken too. */
  readonly takesTwins: boolean;
}

const CONFIG_FLAG: Flag = {
  value: "FILE",
  doc: "configuration file; else HUBWIRE_CONFIG, else hubwire.yaml in this folder",
  isSwitch: false,
};

const COMMANDS: ReadonlyMap<string, CommandShape> = new Map<string, CommandShape>([
  [
    "start",
    {
      summary: "run the gateway",
      flags: new Map([
        ["config", CONFIG_FLAG],
        [
          "example",
          { value: "NAME", doc: "run an example with its backend; not used when --config is given", isSwitch: false },
        ],
      ]),
      takesTwins: true,
    },
  ],
  ["check", { summary: "check a configuration and end", flags: new Map([["config", CONFIG_FLAG]]), takesTwins: true }],
  [
    "token",
    {
      summary: "print a client URL with a token in it",
      flags: new Map([
        ["hub", { value: "NAME", doc: "the hub that the token opens", isSwitch: false }],
        ["user", { value: "ID", doc: "the user that the client is", isSwitch: false }],
        [
          "ttl",
          { value: "SECONDS", doc: `how long the token holds, ${DEFAULT_TTL_SECONDS} if left out`, isSwitch: false },
        ],
        ["config", CONFIG_FLAG],
      ]),
      takesTwins: false,
    },
  ],
  ["send", { summary: "comes with the REST API in a later version", flags: new Map(), takesTwins: false }],
  ["version", { summary: "print the version", flags: new Map(), takesTwins: false }],
]);

/**
 * Reads the command line, without the program's own name.
 *
 * Errors: throws `UsageError` with one sentence. Values are not checked here beyond `--ttl`: `loadConfig` does that.
 */
export function parseArgs(argv: readonly string[]): Command {
  const [word, ...rest] = argv;
  if (word === undefined || word === "--help" || word === "-h" || word === "help") {
    return { name: "help", text: formatHelp() };
  }
  const name = word === "--version" || word === "-v" ? "version" : word;
  const shape = COMMANDS.get(name);
  if (shape === undefined) {
    const near = suggestName(name, [...COMMANDS.keys()], " ");
    throw new UsageError(`there is no command \`${name}\`${didYouMean(near) || "."} See hubwire --help.`);
  }
  if (rest.includes("--help") || rest.includes("-h")) return { name: "help", text: formatCommandHelp(name, shape) };
  // `send` has arguments of its own later; whatever they are, the answer is the same sentence.
  return name === "send" ? { name } : buildCommand(name, readFlagTexts(name, shape, rest));
}

function buildCommand(name: string, texts: ReadonlyMap<string, string>): Command {
  const configFile = texts.get("config") ?? null;
  const flags = Object.fromEntries([...texts].filter(([flag]) => flagTwins().has(flag)));
  switch (name) {
    case "start":
      // `npm start` names the example; with a file behind it the gateway runs alone.
      return { name, configFile, example: configFile === null ? (texts.get("example") ?? null) : null, flags };
    case "check":
      return { name, configFile, flags };
    case "token":
      return {
        name,
        configFile,
        hub: requireText(texts, "hub"),
        user: requireText(texts, "user"),
        ttlSeconds: parseTtl(texts.get("ttl")),
      };
    default:
      return { name: "version" };
  }
}

function requireText(texts: ReadonlyMap<string, string>, flag: string): string {
  const text = texts.get(flag);
  if (text === undefined || text === "")
    throw new UsageError(`hubwire token needs --${flag}. See hubwire token --help.`);
  return text;
}

function parseTtl(text: string | undefined): number {
  if (text === undefined) return DEFAULT_TTL_SECONDS;
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > MAX_TTL_SECONDS) {
    throw new UsageError(`--ttl must be a whole number of seconds from 1 to ${MAX_TTL_SECONDS}.`);
  }
  return seconds;
}

/** Splits `--flag value` and `--flag=value`; every flag may stand once. */
function readFlagTexts(command: string, shape: CommandShape, words: readonly string[]): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? "";
    if (!word.startsWith("--") || word === "--") {
      throw new UsageError(`hubwire ${command} takes flags only; what stands at place ${at + 1} is none.`);
    }
    const equals = word.indexOf("=");
    const name = word.slice(2, equals < 0 ? undefined : equals);
    const flag = findFlag(command, shape, name);
    if (texts.has(name)) throw new UsageError(`--${name} is given twice.`);
    if (equals >= 0) {
      texts.set(name, word.slice(equals + 1));
      continue;
    }
    const next = words[at + 1];
    if (flag.isSwitch && next !== "true" && next !== "false") {
      texts.set(name, "true");
    } else if (next === undefined || next.startsWith("--")) {
      throw new UsageError(`--${name} needs a value: --${name} ${flag.value}.`);
    } else {
      texts.set(name, next);
      at++;
    }
  }
  return texts;
}

function findFlag(command: string, shape: CommandShape, name: string): Flag {
  const own = shape.flags.get(name);
  if (own !== undefined) return own;
  const twin = shape.takesTwins ? flagTwins().get(name) : undefined;
  if (twin !== undefined) return { value: valueName(twin), doc: twin.doc, isSwitch: twin.kind === "boolean" };
  const known = [...shape.flags.keys(), ...(shape.takesTwins ? flagTwins().keys() : [])];
  const near = suggestName(name, known, "-");
  const suggestion = didYouMean(near === null ? null : `--${near}`) || ".";
  throw new UsageError(`hubwire ${command} has no flag --${name}${suggestion} See hubwire ${command} --help.`);
}

function valueName(option: Option): string {
  if (option.kind === "boolean") return "true|false";
  if (option.choices.length > 0) return option.choices.join("|");
  if (option.kind === "integer" || option.kind === "number") return "NUMBER";
  return option.kind === "text" ? "TEXT" : "JSON";
}

function formatHelp(): string {
  const width = Math.max(...[...COMMANDS.keys()].map((name) => name.length));
  const lines = [...COMMANDS].map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return ["usage: hubwire COMMAND [FLAGS]", "", ...lines, "", "hubwire COMMAND --help says more."].join("\n");
}

function formatCommandHelp(name: string, shape: CommandShape): string {
  const rows = [...shape.flags].map(([flag, { value, doc }]) => [`--${flag} ${value}`, doc] as const);
  const twins = shape.takesTwins ? [...flagTwins()] : [];
  const twinRows = twins.map(([flag, option]) => [`--${flag} ${valueName(option)}`, option.doc] as const);
  const lines = [`usage: hubwire ${name}${rows.length > 0 ? " [FLAGS]" : ""}`, "", shape.summary];
  if (rows.length > 0) lines.push("", ...rows.map(formatRow));
  if (twinRows.length > 0)
    lines.push(
      "",
      "Every option of the configuration, over the file and the environment:",
      "",
      ...twinRows.map(formatRow),
    );
  return lines.join("\n");
}

function formatRow([flag, doc]: readonly [string, string]): string {
  return `  ${flag}\n      ${doc}`;
}
