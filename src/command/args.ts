import { didYouMean, suggestName } from "../config/suggest.ts";
import { flagTwins } from "../config/twins.ts";
import type { Members, Target } from "../protocol/envelope.ts";
import { HUB_RULE, isHubName, isName, NAME_RULE } from "../protocol/names.ts";
import {
  COMMANDS,
  type CommandShape,
  commandsOf,
  DEFAULT_TTL_SECONDS,
  type Flag,
  formatCommandHelp,
  formatHelp,
  valueName,
} from "./commands.ts";

/** Flag twins given on the command line: texts by name without dashes, as `loadConfig` takes them. */
export type FlagTexts = Readonly<Record<string, string>>;

/** Which gateway is called: null where the command line does not say. */
export interface GatewayChoice {
  readonly connectionString: string | null;
  readonly configFile: string | null;
}

/** A command that calls a gateway's REST API. */
export type RemoteCommand =
  | {
      readonly name: "send";
      readonly gateway: GatewayChoice;
      readonly target: Target;
      readonly text: string;
      readonly binary: boolean;
    }
  | { readonly name: "exists"; readonly gateway: GatewayChoice; readonly target: Members }
  | {
      readonly name: "close";
      readonly gateway: GatewayChoice;
      readonly target: Members;
      readonly reason: string | null;
    };

/** A command that asks the process at work in a data folder about disconnect events that were given up. */
export type DeadLettersCommand = {
  readonly configFile: string | null;
  readonly flags: FlagTexts;
} & (
  | { readonly name: "dead-letters list"; readonly asJson: boolean }
  | {
      readonly name: "dead-letters retry" | "dead-letters drop";
      /** Each once; null: all. */
      readonly connectionIds: readonly string[] | null;
    }
);

/** What a token is for: a hub, or a path that a pattern of `paths` should match. */
export type TokenPlace = { readonly hub: string; readonly path: null } | { readonly hub: null; readonly path: string };

/** What the command line asks for. */
export type Command =
  | {
      readonly name: "start";
      readonly configFile: string | null;
      readonly example: string | null;
      /** How many processes share the port; null: this one is the gateway itself. */
      readonly processes: number | null;
      readonly flags: FlagTexts;
    }
  | { readonly name: "check"; readonly configFile: string | null; readonly flags: FlagTexts }
  | (TokenPlace & {
      readonly name: "token";
      readonly configFile: string | null;
      readonly user: string;
      readonly ttlSeconds: number;
    })
  | RemoteCommand
  | DeadLettersCommand
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

const MAX_TTL_SECONDS = 31_536_000;
const MAX_PROCESSES = 256;

/** The flags that name the target of a message or a question; the order is that of the sentences. */
const MEMBERS = ["user", "group", "connection"] as const;

/** The words behind a command, sorted. */
interface Words {
  readonly command: string;
  readonly texts: ReadonlyMap<string, string>;
  /** As many as the command's shape allows. */
  readonly arguments: readonly string[];
}

/**
 * Reads the command line, without the program's own name.
 *
 * Errors: throws `UsageError` with one sentence; it holds no value. Options are not checked here: `loadConfig` does that.
 */
export function parseArgs(argv: readonly string[]): Command {
  const [word, ...rest] = argv;
  if (word === undefined || isHelp(word) || word === "help") return { name: "help", text: formatHelp() };
  const isGroup = commandsOf(word).length > 0;
  const [second] = rest;
  if (isGroup && (second === undefined || isHelp(second))) return { name: "help", text: formatHelp(word) };
  const name = isGroup ? `${word} ${second}` : word === "--version" || word === "-v" ? "version" : word;
  const shape = COMMANDS.get(name);
  if (shape === undefined) {
    throw new UsageError(isGroup ? unknownInGroup(word, second ?? "") : unknownCommand(name));
  }
  const words = isGroup ? rest.slice(1) : rest;
  const end = words.indexOf("--");
  const flagWords = end < 0 ? words : words.slice(0, end);
  if (flagWords.some(isHelp)) return { name: "help", text: formatCommandHelp(name, shape) };
  return buildCommand(readWords(name, shape, words));
}

function isHelp(word: string): boolean {
  return word === "--help" || word === "-h";
}

function unknownCommand(name: string): string {
  const known = [...COMMANDS.keys()];
  const groups = known.flatMap((key) => key.split(" ").slice(0, -1));
  const near = suggestName(name, [...known, ...groups], " ");
  return `there is no command \`${name}\`${didYouMean(near) || "."} See hubwire --help.`;
}

function unknownInGroup(group: string, word: string): string {
  const known = commandsOf(group).map((name) => name.slice(group.length + 1));
  const near = suggestName(word, known, " ");
  const suggestion = didYouMean(near === null ? null : `${group} ${near}`) || ".";
  return `there is no command \`${group} ${word}\`${suggestion} See hubwire ${group} --help.`;
}

function buildCommand(words: Words): Command {
  const { command, texts } = words;
  const configFile = texts.get("config") ?? null;
  const flags = Object.fromEntries([...texts].filter(([flag]) => flagTwins().has(flag)));
  switch (command) {
    case "start": {
      // `npm start` names the example; with a file behind it the gateway runs alone.
      const example = configFile === null ? (texts.get("example") ?? null) : null;
      const processes = parseProcesses(texts.get("processes"));
      if (example !== null && processes !== null) {
        throw new UsageError("--processes cannot run an example: give --config, or leave out --example.");
      }
      return { name: command, configFile, example, processes, flags };
    }
    case "check":
      return { name: command, configFile, flags };
    case "token": {
      const isPath = texts.has("path");
      if (isPath && texts.has("hub")) throw new UsageError("--hub and --path cannot be combined.");
      const place: TokenPlace = isPath
        ? { hub: null, path: requireText(words, "path") }
        : { hub: requireHub(words), path: null };
      const user = checkedName("user", requireText(words, "user"));
      return { name: command, configFile, ...place, user, ttlSeconds: parseTtl(texts.get("ttl")) };
    }
    case "send":
    case "exists":
    case "close":
      return buildRemoteCommand(command, words, {
        connectionString: texts.get("connection-string") ?? null,
        configFile,
      });
    case "dead-letters list":
      return { name: command, configFile, flags, asJson: texts.has("json") };
    case "dead-letters retry":
    case "dead-letters drop":
      return { name: command, configFile, flags, connectionIds: chooseConnections(words) };
    default:
      return { name: "version" };
  }
}

function buildRemoteCommand(name: RemoteCommand["name"], words: Words, gateway: GatewayChoice): RemoteCommand {
  const hub = requireHub(words);
  const { texts } = words;
  if (name === "close") {
    const connection = checkedName("connection", requireText(words, "connection"));
    return {
      name,
      gateway,
      target: { kind: "connection", hub, name: connection },
      reason: texts.get("reason") ?? null,
    };
  }
  const [kind, other] = MEMBERS.filter((flag) => texts.has(flag));
  if (other !== undefined) throw new UsageError(`--${kind} and --${other} cannot be combined.`);
  if (kind === undefined && name === "exists") {
    throw new UsageError(`hubwire exists needs --user, --group or --connection. See hubwire exists --help.`);
  }
  const members = kind === undefined ? null : { kind, hub, name: checkedName(kind, requireText(words, kind)) };
  if (members !== null && name === "exists") return { name, gateway, target: members };
  const binary = texts.has("binary");
  return { name: "send", gateway, target: members ?? { kind: "hub", hub }, text: words.arguments[0] ?? "", binary };
}

/** The connections that are named; null where all are meant, which must be said. */
function chooseConnections({ command, texts, arguments: ids }: Words): readonly string[] | null {
  const isAll = texts.has("all");
  if (isAll && ids.length > 0) throw new UsageError(`hubwire ${command} takes IDs or --all, not both.`);
  if (!isAll && ids.length === 0) {
    throw new UsageError(`hubwire ${command} needs connection IDs, or --all. See hubwire ${command} --help.`);
  }
  return isAll ? null : [...new Set(ids)];
}

function requireText({ command, texts }: Words, flag: string): string {
  const text = texts.get(flag);
  if (text === undefined || text === "") {
    throw new UsageError(`hubwire ${command} needs --${flag}. See hubwire ${command} --help.`);
  }
  return text;
}

function requireHub(words: Words): string {
  const hub = requireText(words, "hub");
  if (isHubName(hub)) return hub;
  throw new UsageError(`--hub must be ${HUB_RULE}.`);
}

function checkedName(flag: string, name: string): string {
  if (isName(name)) return name;
  throw new UsageError(`--${flag} must be ${NAME_RULE}.`);
}

function parseTtl(text: string | undefined): number {
  if (text === undefined) return DEFAULT_TTL_SECONDS;
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > MAX_TTL_SECONDS) {
    throw new UsageError(`--ttl must be a whole number of seconds from 1 to ${MAX_TTL_SECONDS}.`);
  }
  return seconds;
}

function parseProcesses(text: string | undefined): number | null {
  if (text === undefined) return null;
  const count = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= MAX_PROCESSES) return count;
  throw new UsageError(`--processes must be a whole number from 1 to ${MAX_PROCESSES}.`);
}

/** Splits `--flag value`, `--flag=value` and the arguments; every flag may be given once, and `--` ends them. */
function readWords(command: string, shape: CommandShape, words: readonly string[]): Words {
  const texts = new Map<string, string>();
  const loose: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? "";
    if (word === "--" && shape.argument !== null) {
      loose.push(...words.slice(at + 1));
      break;
    }
    if (!word.startsWith("--") || word === "--") {
      if (shape.argument === null) {
        throw new UsageError(`hubwire ${command} takes flags only; argument ${at + 1} is not a flag.`);
      }
      loose.push(word);
      continue;
    }
    const { name, text, next } = readFlag(command, shape, word, words[at + 1]);
    if (texts.has(name)) throw new UsageError(`--${name} is given twice.`);
    texts.set(name, text);
    if (next) at++;
  }
  checkCount(command, shape, loose);
  return { command, texts, arguments: loose };
}

function checkCount(command: string, { argument }: CommandShape, loose: readonly string[]): void {
  if (argument?.count !== "one" || loose.length === 1) return;
  const { name } = argument;
  throw new UsageError(
    loose.length === 0
      ? `hubwire ${command} needs a ${name}. See hubwire ${command} --help.`
      : `hubwire ${command} takes one ${name}: put it in quotes if it has spaces.`,
  );
}

/** One flag's name and text; `next` says that the text was the following word. */
function readFlag(
  command: string,
  shape: CommandShape,
  word: string,
  following: string | undefined,
): { name: string; text: string; next: boolean } {
  const equals = word.indexOf("=");
  const name = word.slice(2, equals < 0 ? undefined : equals);
  const flag = findFlag(command, shape, name);
  if (flag.value === "") {
    if (equals >= 0) throw new UsageError(`--${name} does not take a value.`);
    return { name, text: "true", next: false };
  }
  if (equals >= 0) return { name, text: word.slice(equals + 1), next: false };
  if (flag.isSwitch && following !== "true" && following !== "false") return { name, text: "true", next: false };
  if (following === undefined || following.startsWith("--")) {
    throw new UsageError(`--${name} needs a value: --${name} ${flag.value}.`);
  }
  return { name, text: following, next: true };
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
