import { resolve } from "node:path";
import { droppingOf } from "../src/config/dropped-options.ts";
import { isLater } from "../src/config/later.ts";
import { hasTwin, listOptions, type Option, optionName } from "../src/config/options.ts";
import { environmentName, flagName } from "../src/config/twins.ts";
import { ERROR_CODES } from "../src/protocol/error-codes.ts";

/** Where `npm run docs` writes. */
export const CONFIGURATION_DOC = resolve(import.meta.dir, "../docs/configuration.md");
export const ERROR_CODES_DOC = resolve(import.meta.dir, "../docs/error-codes.md");

const INTRODUCTION = `# Configuration

<!-- Generated from src/config/schema.ts by \`npm run docs\`. Do not edit. -->

hubwire reads one file, \`hubwire.yaml\` (or \`.json\`): the one that \`--config FILE\` names, else \`HUBWIRE_CONFIG\`, else the one in
the folder it is started in. Every option has a default but \`urlTemplate\`, so a file of three lines will do:

\`\`\`yaml
upstreams:
  - urlTemplate: "http://localhost:7071/{hub}/api/{event}"
\`\`\`

- **Order.** Flags win over environment variables, those over the file, the file over the defaults.
- **Twins.** \`listen.reusePort\` is also \`HUBWIRE_LISTEN_REUSE_PORT=true\` and \`--listen-reuse-port\`. Blocks, lists and maps are given as
  JSON: \`HUBWIRE_UPSTREAMS='[{"urlTemplate":"…"}]'\`. A block's JSON is laid over the file's block key by key; lists and maps are
  replaced whole. An empty variable counts as not set; the text \`null\` stands for null.
- **Secrets** belong into the file (mode 0600) or a variable: every user of a machine can see the flags of its processes.
- **Commands.** \`send\`, \`exists\` and \`close\` call a gateway that is running: the one of \`--connection-string\`, else the one that
  the file of \`--config\` describes, else \`HUBWIRE_CONNECTION_STRING\`, else the folder's file. A connection string reads
  \`Endpoint=http://127.0.0.1:8080;AccessKey=…;Version=1.0;\`; \`Port=…\` may be added, the order is free. With \`listen.api\`
  a connection string names that listener, and a file leads to the entry of \`publicUrls\` with its port, else to its address on this
  machine.
- **Mistakes.** Unknown keys, variables and flags are refused, with a suggestion. \`hubwire check --config FILE\` reports all faults at once
  and never prints a value. A configuration with a fault ends hubwire with exit code 2.
- **Paths.** Relative paths in the file start at the file's folder; in variables and flags, at the folder hubwire is started in.
- **Units** are in the names: \`Ms\` milliseconds, \`Bytes\` bytes, \`Seconds\` seconds.
- **Templates.** A file with \`templates\` at its top, as the hosted service had it, is read as if it said \`upstreams\`.
`;

const ERROR_CODES_INTRODUCTION = `# Error codes

<!-- Generated from src/protocol/error-codes.ts by \`npm run docs\`. Do not edit. -->

What hubwire itself answers with over HTTP is JSON, with a code of this table. \`message\` is a sentence for people and may change;
\`target\` names the parameter, header or option that it is about:

\`\`\`json
{ "code": "token_expired", "message": "the access token has expired", "target": "exp" }
\`\`\`

- A 4xx by which the backend refuses a client is passed on as it is and has no such body.
- Bun answers broken HTTP before hubwire sees it (400, 413, 431, 505), without a body of this form.
- A browser does not show a page the status of a failed WebSocket handshake; its developer tools and hubwire's log do.
`;

/** Formats the whole of docs/error-codes.md. */
export function formatErrorCodesDoc(): string {
  const rows = Object.entries(ERROR_CODES).map(([code, { status, meaning }]) => [`\`${code}\``, `${status}`, meaning]);
  return `${[ERROR_CODES_INTRODUCTION, ...formatTable([["code", "status", "meaning"], ...rows])].join("\n")}\n`;
}

/** Formats the whole of docs/configuration.md. */
export function formatConfigurationDoc(): string {
  const blocks = new Map<string, Option[]>();
  for (const option of listOptions()) {
    const name = blockName(option);
    blocks.set(name, [...(blocks.get(name) ?? []), option]);
  }
  const sections = [...blocks].map(([name, options]) => formatSection(name, options));
  return `${[INTRODUCTION.trimEnd(), ...sections, formatReloadSection()].join("\n\n")}\n`;
}

const RELOAD_INTRODUCTION = `## Options that a reload does not drop

A file that was cut while it was written has lost keys, and the default of most protections is "off". A changed file is refused
whole if it leaves out one of these options and would open something by that; the log names each. To open it on purpose, write the
value out (\`anonymous: allow\`), or send SIGHUP: then the file is taken as it is, and the log names what has opened. A key with nothing
behind it counts as left out. So do entries of \`upstreams\` that are missing, if no other entry takes their events. Why, and what
cannot be noticed: [decision 0023](decisions/0023-reloads-that-drop-protections.md).`;

function formatReloadSection(): string {
  const rows = listOptions().flatMap((option) => {
    const dropping = droppingOf(option);
    return dropping.kind === "opens" ? [[`\`${optionName(option)}\``, dropping.means]] : [];
  });
  return [RELOAD_INTRODUCTION, "", ...formatTable([["option", "a reload without it"], ...rows])].join("\n");
}

function blockName(option: Option): string {
  return optionName(option).split(".").slice(0, -1).join(".");
}

function formatSection(name: string, options: readonly Option[]): string {
  const title = name === "" ? "Top level" : `\`${name}\``;
  const twins = options.some(hasTwin);
  const header = ["key", "type", "default", ...(twins ? ["variable", "flag"] : []), "meaning"];
  const rows = options.map((option) => [
    `\`${option.path.at(-1)}\``,
    formatType(option),
    formatDefault(option),
    ...(twins ? [`\`${environmentName(option)}\``, `\`--${flagName(option)}\``] : []),
    `${isLater(option) ? "_Not in this version: leave it out._ " : ""}${option.doc}`,
  ]);
  return [`## ${title}`, "", ...formatTable([header, ...rows])].join("\n");
}

function formatType(option: Option): string {
  const range = option.min === null ? "" : `, ${option.min} to ${option.max}`;
  const unit = option.unit === "" ? "" : ` (${option.unit})`;
  const choices = option.kind === "choice" && option.path.at(-1) !== "type" ? option.choices.join(", ") : "";
  return `${choices === "" ? option.kind : choices}${range}${unit}`;
}

function formatDefault(option: Option): string {
  if (option.path.at(-2) === "auth" && option.path.at(-1) === "type") return "`none`";
  if (option.required) return "required";
  if (option.fallback === undefined) return option.kind === "block" ? "see below" : "";
  return `\`${typeof option.fallback === "string" ? option.fallback : JSON.stringify(option.fallback)}\``;
}

/** Cells are filled up to their column's width, as the formatter that checks this repository wants them. */
function formatTable(rows: readonly (readonly string[])[]): string[] {
  const cells = rows.map((row) => row.map(escapeCell));
  const widths = (cells[0] ?? []).map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const lines = cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)));
  lines.splice(
    1,
    0,
    widths.map((width) => "-".repeat(width)),
  );
  return lines.map((row) => `| ${row.join(" | ")} |`);
}

function escapeCell(text: string): string {
  return text.replaceAll("|", "\\|");
}

if (import.meta.main) {
  await Bun.write(CONFIGURATION_DOC, formatConfigurationDoc());
  await Bun.write(ERROR_CODES_DOC, formatErrorCodesDoc());
}
