import type { Option } from "../config/options.ts";
import { flagTwins } from "../config/twins.ts";

/** How long a token holds that is made without `--ttl`. */
export const DEFAULT_TTL_SECONDS = 3600;

/** One flag of a command. */
export interface Flag {
  /** What its value is called in the help; empty for one that takes none. */
  readonly value: string;
  readonly doc: string;
  /** Whether a bare `--flag` means true. */
  readonly isSwitch: boolean;
}

/** What a command takes. */
export interface CommandShape {
  readonly summary: string;
  readonly flags: ReadonlyMap<string, Flag>;
  /** Whether every option's flag twin is taken too. */
  readonly takesTwins: boolean;
  /** The arguments besides the flags; null where a command takes no arguments. */
  readonly argument: Argument | null;
}

/** What a command takes besides flags. */
export interface Argument {
  readonly name: string;
  /** `one`: exactly one; `any`: none, one or more. */
  readonly count: "one" | "any";
}

const CONFIG_FLAG: Flag = {
  value: "FILE",
  doc: "configuration file; else HUBWIRE_CONFIG, else hubwire.yaml in this folder",
  isSwitch: false,
};

function textFlag(value: string, doc: string): Flag {
  return { value, doc, isSwitch: false };
}

/** Which gateway a command calls. */
const GATEWAY_FLAGS: readonly (readonly [string, Flag])[] = [
  [
    "connection-string",
    textFlag(
      "TEXT",
      "gateway and key: Endpoint=http://…;AccessKey=…;Version=1.0; (else --config, else HUBWIRE_CONNECTION_STRING)",
    ),
  ],
  ["config", textFlag("FILE", "the gateway that this configuration describes; the folder's hubwire.yaml in the end")],
];

const HUB_FLAG = textFlag("NAME", "the hub");

/** Which running gateway is meant: the one that works in this data folder. */
const DATA_FOLDER_FLAGS: readonly (readonly [string, Flag])[] = [
  ["config", CONFIG_FLAG],
  ["data-dir", textFlag("DIR", "the running gateway's dataDir, over the configuration")],
];

const DEAD_LETTER_FLAGS: readonly (readonly [string, Flag])[] = [
  ["all", { value: "", doc: "all of them, instead of connection ids", isSwitch: true }],
  ...DATA_FOLDER_FLAGS,
];

/** Every command of hubwire, in the order of the help. A name of two words is one of a group's commands. */
export const COMMANDS: ReadonlyMap<string, CommandShape> = new Map<string, CommandShape>([
  [
    "start",
    {
      summary: "run the gateway",
      flags: new Map([
        ["config", CONFIG_FLAG],
        ["example", textFlag("NAME", "run an example with its backend; not used when --config is given")],
        [
          "processes",
          textFlag("N", "start and watch N processes that share the port, one for each core; needs cluster"),
        ],
      ]),
      takesTwins: true,
      argument: null,
    },
  ],
  [
    "check",
    {
      summary: "check a configuration and end",
      flags: new Map([["config", CONFIG_FLAG]]),
      takesTwins: true,
      argument: null,
    },
  ],
  [
    "token",
    {
      summary: "print a client URL with a token in it",
      flags: new Map([
        ["hub", textFlag("NAME", "the hub that the token opens")],
        [
          "path",
          textFlag("PATH", "in place of --hub: the path that the token opens, which a pattern of `paths` matches"),
        ],
        ["user", textFlag("ID", "the user that the client is")],
        ["ttl", textFlag("SECONDS", `how long the token holds, ${DEFAULT_TTL_SECONDS} if left out`)],
        ["config", CONFIG_FLAG],
      ]),
      takesTwins: false,
      argument: null,
    },
  ],
  [
    "send",
    {
      summary: "send a message to a hub, a user, a group or a connection",
      flags: new Map([
        ["hub", HUB_FLAG],
        ["user", textFlag("ID", "to this user's connections only")],
        ["group", textFlag("NAME", "to this group's connections only")],
        ["connection", textFlag("ID", "to this connection only")],
        ["binary", { value: "", doc: "as a binary message", isSwitch: true }],
        ...GATEWAY_FLAGS,
      ]),
      takesTwins: false,
      argument: { name: "TEXT", count: "one" },
    },
  ],
  [
    "exists",
    {
      summary: "say whether a user, a group or a connection is there: yes (exit code 0) or no (1)",
      flags: new Map([
        ["hub", HUB_FLAG],
        ["user", textFlag("ID", "the user: has a connection")],
        ["group", textFlag("NAME", "the group: has a member")],
        ["connection", textFlag("ID", "the connection: is open")],
        ...GATEWAY_FLAGS,
      ]),
      takesTwins: false,
      argument: null,
    },
  ],
  [
    "close",
    {
      summary: "close a connection",
      flags: new Map([
        ["hub", HUB_FLAG],
        ["connection", textFlag("ID", "the connection")],
        ["reason", textFlag("TEXT", "what the client is told, up to 123 bytes")],
        ...GATEWAY_FLAGS,
      ]),
      takesTwins: false,
      argument: null,
    },
  ],
  [
    "dead-letters list",
    {
      summary: "list the disconnect events that were given up, oldest first",
      flags: new Map([
        [
          "json",
          { value: "", doc: "as JSON, one object a line, instead of columns with tabs between", isSwitch: true },
        ],
        ...DATA_FOLDER_FLAGS,
      ]),
      takesTwins: false,
      argument: null,
    },
  ],
  [
    "dead-letters retry",
    {
      summary: "send disconnect events again that were given up",
      flags: new Map(DEAD_LETTER_FLAGS),
      takesTwins: false,
      argument: { name: "ID", count: "any" },
    },
  ],
  [
    "dead-letters drop",
    {
      summary: "forget disconnect events that were given up",
      flags: new Map(DEAD_LETTER_FLAGS),
      takesTwins: false,
      argument: { name: "ID", count: "any" },
    },
  ],
  ["version", { summary: "print the version", flags: new Map(), takesTwins: false, argument: null }],
]);

/** What the help calls the value of an option's flag twin. */
export function valueName(option: Option): string {
  if (option.kind === "boolean") return "true|false";
  if (option.choices.length > 0) return option.choices.join("|");
  if (option.kind === "integer" || option.kind === "number") return "NUMBER";
  return option.kind === "text" ? "TEXT" : "JSON";
}

/** The names of a group's commands, whole; none where the word names no group. */
export function commandsOf(group: string): string[] {
  return [...COMMANDS.keys()].filter((name) => name.startsWith(`${group} `));
}

/** The answer to `hubwire --help`, and with the name of a group to `hubwire GROUP --help`. */
export function formatHelp(group: string | null = null): string {
  const names = group === null ? [...COMMANDS.keys()] : commandsOf(group);
  const width = Math.max(...names.map((name) => name.length));
  const lines = names.map((name) => `  ${name.padEnd(width)}  ${COMMANDS.get(name)?.summary ?? ""}`);
  const prefix = group === null ? "hubwire" : `hubwire ${group}`;
  return [`usage: ${prefix} COMMAND [FLAGS]`, "", ...lines, "", `${prefix} COMMAND --help says more.`].join("\n");
}

/** The answer to `hubwire COMMAND --help`. */
export function formatCommandHelp(name: string, shape: CommandShape): string {
  const rows = [...shape.flags].map(([flag, { value, doc }]) => [`--${flag} ${value}`.trimEnd(), doc] as const);
  const twins = shape.takesTwins ? [...flagTwins()] : [];
  const twinRows = twins.map(([flag, option]) => [`--${flag} ${valueName(option)}`, option.doc] as const);
  const usage = [`usage: hubwire ${name}`, rows.length > 0 ? "[FLAGS]" : null, formatArgument(shape)].filter(Boolean);
  const lines = [usage.join(" "), "", shape.summary];
  if (shape.argument !== null)
    lines.push("", `Write -- before ${shape.argument.name} where it may begin with two dashes.`);
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

function formatArgument({ argument }: CommandShape): string | null {
  if (argument === null) return null;
  return argument.count === "one" ? argument.name : `[${argument.name}…]`;
}

function formatRow([flag, doc]: readonly [string, string]): string {
  return `  ${flag}\n      ${doc}`;
}
