import { resolve } from "node:path";
import { droppingOf } from "../src/config/dropped-options.ts";
import { isLater } from "../src/config/later.ts";
import { hasTwin, listOptions, type Option, optionName } from "../src/config/options.ts";
import { environmentName, flagName } from "../src/config/twins.ts";
import { ERROR_CODES } from "../src/protocol/error-codes.ts";

/** Where `npm run docs` writes. */
export const CONFIGURATION_DOC = resolve(import.meta.dir, "../docs/configuration.md");
export const ERROR_CODES_DOC = resolve(import.meta.dir, "../docs/error-codes.md");

const LINE_WIDTH = 118;

const INTRODUCTION = `# Configuration

<!-- Generated from src/config/schema.ts by \`npm run docs\`. Do not edit. -->

hubwire reads one file, \`hubwire.yaml\` (or \`.json\`): the file of \`--config FILE\`, else of \`HUBWIRE_CONFIG\`, else the one in
the current folder. Only \`urlTemplate\` has no default, so three lines are enough:

\`\`\`yaml
upstreams:
  - urlTemplate: "http://localhost:7071/{hub}/api/{event}"
\`\`\`

- **Precedence.** A flag overrides an environment variable, which overrides the file, which overrides the default.
- **Variables and flags.** \`listen.reusePort\` is also \`HUBWIRE_LISTEN_REUSE_PORT=true\` and \`--listen-reuse-port\`. Blocks, lists and
  maps are given as JSON: \`HUBWIRE_UPSTREAMS='[{"urlTemplate":"…"}]'\`. The JSON of a block is merged into the file's block key by
  key; lists and maps are replaced. An empty variable counts as not set; the text \`null\` means null.
- **Secrets** belong in the file (mode 0600) or in a variable: all users of a machine can see the flags of its processes.
- **Commands.** \`send\`, \`exists\` and \`close\` call a running gateway: the one of \`--connection-string\`, else the one described by the
  file of \`--config\`, else \`HUBWIRE_CONNECTION_STRING\`, else the file in the current folder. A connection string reads
  \`Endpoint=http://127.0.0.1:8080;AccessKey=…;Version=1.0;\`, in any order; \`Port=…\` may be added. With \`listen.api\`, a connection
  string names the listener of the REST API; a file leads to the entry of \`publicUrls\` with that port, else to its address on this
  machine.
- **Mistakes.** Unknown keys, variables and flags are refused, with a suggestion. \`hubwire check --config FILE\` reports all faults at
  once and never prints a value. A configuration with a fault ends hubwire with exit code 2.
- **Paths.** Relative paths in the file start at the file's folder. In variables and flags they start at the current folder.
- **Units** are part of the name: \`Ms\` for milliseconds, \`Bytes\`, \`Seconds\`.
- **Templates.** The hosted service called the list \`templates\`. That name is accepted in place of \`upstreams\`.

Each entry below has the option's type and range, its default, its environment variable and its flag.
`;

const ERROR_CODES_INTRODUCTION = `# Error codes

<!-- Generated from src/protocol/error-codes.ts by \`npm run docs\`. Do not edit. -->

hubwire's own error responses are JSON with one of the codes below. \`message\` is a sentence for humans and may change between
versions; \`target\` names the parameter, header or option at fault:

\`\`\`json
{ "code": "token_expired", "message": "the access token has expired", "target": "exp" }
\`\`\`

- A 4xx answer of the backend to connect is passed on to the client unchanged and has no such body.
- Bun answers malformed HTTP before hubwire sees it (400, 413, 431, 505). These responses have no such body.
- A browser hides the status of a failed WebSocket handshake from the page. Its developer tools and hubwire's log show it.

## Codes
`;

/** Formats the whole of docs/error-codes.md. */
export function formatErrorCodesDoc(): string {
  const entries = Object.entries(ERROR_CODES).map(([code, { status, meaning }]) =>
    formatEntry(`**\`${code}\`** (${status}): ${meaning}`),
  );
  return `${[ERROR_CODES_INTRODUCTION, ...entries].join("\n")}\n`;
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

A file that was truncated while it was written lacks keys, and most protections are off by default. So hubwire refuses a changed file
that leaves out one of the options below, if the default would allow more than the value in force. The log names each such option.

- To allow more on purpose, write the value (\`anonymous: allow\`), or send SIGHUP. On SIGHUP the file is taken as it is, and the log
  names each option that now allows more.
- A key without a value counts as left out. So does a missing entry of \`upstreams\`, if no other entry takes its events.
- The reasons, and what cannot be detected: [decision 0023](decisions/0023-reloads-that-drop-protections.md).

A reload that leaves the option out has this effect:`;

function formatReloadSection(): string {
  const entries = listOptions().flatMap((option) => {
    const dropping = droppingOf(option);
    return dropping.kind === "opens" ? [formatEntry(`\`${optionName(option)}\`: ${dropping.means}.`)] : [];
  });
  return [RELOAD_INTRODUCTION, "", ...entries].join("\n");
}

function blockName(option: Option): string {
  return optionName(option).split(".").slice(0, -1).join(".");
}

function formatSection(name: string, options: readonly Option[]): string {
  const title = name === "" ? "Top level" : `\`${name}\``;
  return [`## ${title}`, ...options.map(formatOption)].join("\n\n");
}

/** One entry: the key with its type, default, variable and flag, and below them its sentence. */
function formatOption(option: Option): string {
  const facts = [formatType(option), formatDefault(option)];
  if (hasTwin(option)) facts.push(`\`${environmentName(option)}\``, `\`--${flagName(option)}\``);
  const later = isLater(option) ? "_Not in this version: leave it out._ " : "";
  return formatEntry(
    `**\`${option.path.at(-1)}\`**: ${facts.filter((fact) => fact !== "").join("; ")}`,
    `${later}${option.doc}`,
  );
}

function formatType(option: Option): string {
  const range = option.min === null ? "" : `, ${option.min} to ${option.max}`;
  const unit = option.unit === "" ? "" : ` (${option.unit})`;
  const choices = option.kind === "choice" && option.path.at(-1) !== "type" ? option.choices.join(", ") : "";
  return `${choices === "" ? option.kind : choices}${range}${unit}`;
}

function formatDefault(option: Option): string {
  if (option.path.at(-2) === "auth" && option.path.at(-1) === "type") return "default `none`";
  if (option.required) return "required";
  if (option.fallback === undefined) return option.kind === "block" ? "see below" : "";
  return `default \`${typeof option.fallback === "string" ? option.fallback : JSON.stringify(option.fallback)}\``;
}

/** A list entry of one or more paragraphs, none of whose lines is longer than `LINE_WIDTH`. */
function formatEntry(...paragraphs: readonly string[]): string {
  const lines = paragraphs.flatMap((paragraph, index) => (index === 0 ? wrap(paragraph) : ["", ...wrap(paragraph)]));
  return lines.map((line, index) => (line === "" ? "" : `${index === 0 ? "- " : "  "}${line}`)).join("\n");
}

function wrap(paragraph: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of paragraph.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (longer.length <= LINE_WIDTH) line = longer;
    else {
      lines.push(line);
      line = word;
    }
  }
  return [...lines, line];
}

if (import.meta.main) {
  await Bun.write(CONFIGURATION_DOC, formatConfigurationDoc());
  await Bun.write(ERROR_CODES_DOC, formatErrorCodesDoc());
}
