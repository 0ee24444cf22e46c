/**
 * The house rules that a machine can hold: who may import whom, no cycles, no barrels, no module-level state, sizes, names.
 *
 * Shape:  works on text, one line at a time or one import at a time, and trusts the formatter: declarations of a module
 *         start in the first column, a function ends with a `}` in the column where it started.
 * Source: ARCHITECTURE.md.
 */
import { listRegExps, superLinearFault } from "./regexp-cost.ts";

/** A file of `src`: its path from there, with `/`, and its text. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

const ADAPTERS = ["sockets", "upstream", "api", "broker", "rules", "journal", "leases", "admin", "observe", "console"];
const ADAPTER_REACH = ["protocol", "core", "auth", "config", "nats", "storage"];
const MAX_FILE_LINES = 400;
const MAX_FUNCTION_LINES = 50;
const VAGUE_NAMES = /^(?:.*-)?(?:utils?|helpers?|common|managers?|services?|types?|misc|shared|base|impl)\.ts$/;

/** What an area may import. */
interface Reach {
  /** Areas of src, besides itself. */
  readonly areas: readonly string[];
  /** Whether packages, `node:` and `bun` are open to it. */
  readonly outside: boolean;
}

const REACH: ReadonlyMap<string, Reach> = new Map<string, Reach>([
  ["protocol", { areas: [], outside: false }],
  ["core", { areas: ["protocol"], outside: false }],
  ["dialects", { areas: ["protocol"], outside: false }],
  ["client-protocols", { areas: ["protocol"], outside: false }],
  ["config", { areas: ["protocol"], outside: true }],
  ["auth", { areas: ["protocol"], outside: true }],
  ["nats", { areas: ["protocol", "config"], outside: true }],
  ["storage", { areas: ["protocol", "auth"], outside: true }],
  ...ADAPTERS.map((area): [string, Reach] => [area, { areas: ADAPTER_REACH, outside: true }]),
  ["gateway", { areas: [...ADAPTER_REACH, ...ADAPTERS, "dialects", "client-protocols"], outside: true }],
  ["command", { areas: ["protocol", "core", "auth", "config", "admin"], outside: true }],
  ["main.ts", { areas: [...ADAPTER_REACH, ...ADAPTERS, "gateway", "command"], outside: true }],
]);

/** Everything wrong with the files, one sentence each. `packages` are those that the product itself depends on. */
export function findFaults(files: readonly SourceFile[], packages: readonly string[]): string[] {
  return [
    ...files.flatMap((file) => [
      ...importFaults(file, packages),
      ...stateFaults(file),
      ...nameFaults(file),
      ...sizeFaults(file),
      ...processFaults(file),
      ...outputFaults(file),
      ...spellingFaults(file),
      ...dialectFaults(file),
      ...vocabularyFaults(file),
      ...costFaults(file),
      ...fileFaults(file),
    ]),
    ...findCycles(files),
  ];
}

/** Upstreams see a hub in one spelling: what forms their requests reads its name only for `spellHub` and to find an entry. */
function spellingFaults({ path, text }: SourceFile): string[] {
  if (isTest(path) || !(path.startsWith("upstream/") || path.startsWith("dialects/"))) return [];
  const reads = text.split("\n").filter((line) => /\bfacts\??\.hub\b|\bhub\b[^{}]*\} = [^;]*\bfacts\b/.test(line));
  const others = reads.filter((line) => !/\b#?(?:spellHub|find)\([\w.]*facts\.hub\b/.test(line));
  return others.map((line) => `${path}: \`${line.trim()}\` reads the hub of an event without spellHub`);
}

/** Words of ARCHITECTURE.md's table of terms that a declared name may hold in some places only: elsewhere another term is meant. */
const VOCABULARY: readonly { readonly word: RegExp; readonly only: RegExp; readonly write: string }[] = [
  { word: /Backend/, only: /^command\/example\.ts$/, write: "an entry of `upstreams` is an Entry" },
  {
    word: /Verdict/,
    only: /^(?:core\/ports\/broker\.ts$|core\/deliver\.ts$|broker\/)/,
    write: "only a node's reply to a question is a Verdict",
  },
  { word: /Lane/, only: /^core\//, write: "a lane holds the owed disconnects of one entry" },
  {
    word: /Answer/,
    only: /^(?!(?:broker|journal|leases|rules|nats)\/)/,
    write: "an answer is the HTTP response to a call; a node replies with a Verdict",
  },
  {
    word: /Logs?(?![a-z])|Copy|Copied/,
    only: /^(?!journal\/)/,
    write: "the copy of a journal in NATS is the replica, the log of SQLite the WAL",
  },
];

/** One idea has one word: the names that a file declares, and its own name, use the terms of ARCHITECTURE.md. */
function vocabularyFaults({ path, text }: SourceFile): string[] {
  if (isTest(path)) return [];
  const declared = text.matchAll(/^(?:export )?(?:abstract )?(?:class|interface|type) (\w+)/gm);
  const words = VOCABULARY.filter(({ only }) => !only.test(path));
  return Array.from(declared, ([, name = ""]) => name).flatMap((name) =>
    words.filter(({ word }) => word.test(name)).map(({ write }) => `${path}: \`${name}\`: ${write}`),
  );
}

/** Only a dialect knows what its protocol is called: for the core all are alike. */
function dialectFaults({ path, text }: SourceFile): string[] {
  if (!path.startsWith("core/")) return [];
  return /asrs/i.test(text) ? [`${path}: names the dialect asrs, which only src/dialects/asrs may know`] : [];
}

/** What a file imports or re-exports, types and `import(…)` too. */
export function listImports(text: string): string[] {
  const statements = text.matchAll(/^(?:import|export)\s(?:[\w*\s{},$]*?\sfrom\s*)?["']([^"']+)["']/gm);
  const calls = text.matchAll(/\bimport\(\s*["']([^"']+)["']/g);
  return [...statements, ...calls].map((match) => match[1] ?? "");
}

/** The file of src that a relative import names, from the importing file's path; null where it leads out of src. */
function resolveImport(from: string, target: string): string | null {
  const parts = from.split("/").slice(0, -1);
  for (const part of target.split("/")) {
    if (part === "..") {
      if (parts.length === 0) return null;
      parts.pop();
    } else if (part !== ".") {
      parts.push(part);
    }
  }
  return parts.join("/");
}

/** The first folder of a path in src, or the file's own name. `main.test.ts` is held to what `main.ts` may do. */
function areaOf(path: string): string {
  return (path.split("/")[0] ?? "").replace(/\.test\.ts$/, ".ts");
}

function isTest(path: string): boolean {
  return path.endsWith(".test.ts");
}

function importFaults(file: SourceFile, packages: readonly string[]): string[] {
  const area = areaOf(file.path);
  const reach = REACH.get(area) ?? null;
  if (reach === null) return [`${file.path}: no rule says what \`${area}\` may import`];
  return listImports(file.text).flatMap((target) => {
    const fault = target.startsWith(".")
      ? relativeFault(file.path, area, reach, target)
      : outsideFault(file.path, reach, target, packages);
    return fault === null ? [] : [`${file.path}: imports ${target}, ${fault}`];
  });
}

function relativeFault(from: string, area: string, reach: Reach, target: string): string | null {
  const path = resolveImport(from, target);
  // A test may use files of test/; package.json says which version this is.
  if (path === null) return isTest(from) || target.endsWith("/package.json") ? null : "which is not in src";
  if (target.endsWith(".js") || !/\.\w+$/.test(target)) return "without the ending .ts";
  const targetArea = areaOf(path);
  if (path === "main.ts" && area !== "main.ts") return "but nothing imports main.ts";
  if (targetArea === area || reach.areas.includes(targetArea)) return null;
  return `but ${area} may import ${["itself", ...reach.areas].join(", ")} only`;
}

function outsideFault(from: string, reach: Reach, target: string, packages: readonly string[]): string | null {
  if (isTest(from)) return null;
  if (!reach.outside) return "but this part of the house imports no package, no node: and no bun";
  if (target.startsWith("node:") || target === "bun" || target.startsWith("bun:")) return null;
  const name = target
    .split("/")
    .slice(0, target.startsWith("@") ? 2 : 1)
    .join("/");
  return packages.includes(name) ? null : "which is no dependency of the product";
}

/** Cycles of imports, types included: two files that need each other's types are one noun in two files. */
export function findCycles(files: readonly SourceFile[]): string[] {
  const known = new Map(files.map((file) => [file.path, file]));
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      cycles.push(`import cycle: ${[...trail.slice(start), path].join(" → ")}`);
      return;
    }
    const file = known.get(path);
    if (file === undefined || done.has(path)) return;
    for (const target of listImports(file.text)) {
      const next = target.startsWith(".") ? resolveImport(path, target) : null;
      if (next !== null) visit(next, [...trail, path]);
    }
    done.add(path);
  };
  for (const file of files) visit(file.path, []);
  return cycles;
}

function stateFaults(file: SourceFile): string[] {
  if (isTest(file.path)) return [];
  const variables = file.text.matchAll(/^(?:export )?(?:let|var) (\w+)/gm);
  // A container is no state where its type forbids to change it.
  const containers = file.text.matchAll(
    /^(?:export )?const (\w+)(?:: (?!Readonly|readonly)[^=\n]+)? = (?:new (?:Weak)?(?:Map|Set)\b|\[\];|\{\};)/gm,
  );
  return [...variables, ...containers].map((match) => `${file.path}: \`${match[1]}\` is module-level state`);
}

/** Where folders and files are made: 0700 and 0600 from their first moment, and no mode of the operator's is changed (decision 0022). */
const MAKES_FILES = "auth/private-files.ts";

function fileFaults(file: SourceFile): string[] {
  if (isTest(file.path) || file.path === MAKES_FILES) return [];
  const calls = file.text.matchAll(
    /\b((?:f|l)?chmod|mkdir|mkdtemp|appendFile|createWriteStream|Bun\.write)(?:Sync)?\(/g,
  );
  return [...calls].map((match) => `${file.path}: calls \`${match[1]}\`, which only ${MAKES_FILES} does`);
}

/** Bun that is started with other flags than this process reads files of the current folder, which may run code (decision 0022). */
function processFaults(file: SourceFile): string[] {
  if (isTest(file.path)) return [];
  const lines = file.text.split("\n").filter((line) => line.includes("process.execPath"));
  const unguarded = lines.filter((line) => !line.includes("process.execPath, ...process.execArgv"));
  return unguarded.map(() => `${file.path}: starts Bun without \`...process.execArgv\``);
}

/** A write without `observe` blocks until its reader takes it (decision 0018). */
function outputFaults({ path, text }: SourceFile): string[] {
  if (isTest(path) || path === "main.ts" || path.startsWith("observe/")) return [];
  const writes = text.matchAll(/^(?! *(?:\*|\/)).*\b(console\.\w+|process\.std(?:out|err))\b/gm);
  return [...writes].map((match) => `${path}: writes by \`${match[1]}\`, which blocks until its reader takes it`);
}

function nameFaults(file: SourceFile): string[] {
  const name = file.path.split("/").at(-1) ?? "";
  const faults: string[] = [];
  if (name === "index.ts" || /^export \*/m.test(file.text)) faults.push(`${file.path}: is a barrel`);
  if (VAGUE_NAMES.test(name)) faults.push(`${file.path}: says nothing with its name`);
  if (!/^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.test)?\.ts$/.test(name)) faults.push(`${file.path}: is not named in kebab-case`);
  return faults;
}

function sizeFaults(file: SourceFile): string[] {
  const lines = file.text.replace(/\n$/, "").split("\n");
  const faults: string[] = [];
  if (lines.length > MAX_FILE_LINES) {
    faults.push(`${file.path}: has ${lines.length} lines; files end at ${MAX_FILE_LINES}`);
  }
  if (isTest(file.path)) return faults;
  for (const [start, line] of lines.entries()) {
    const found = functionStart(line);
    if (found === null) continue;
    const length = lines.slice(start).findIndex((end) => new RegExp(`^${found.indent}\\}[,;)]*$`).test(end)) + 1;
    if (length > MAX_FUNCTION_LINES) {
      faults.push(`${file.path}: \`${found.name}\` has ${length} lines; functions end at ${MAX_FUNCTION_LINES}`);
    }
  }
  return faults;
}

/**
 * Forms whose work grows faster than a hostile text: some regular expressions, and a list or bytes copied to add to them.
 *
 * Tests are free to use them: what they read is their own.
 */
export function costFaults({ path, text }: SourceFile): string[] {
  if (isTest(path)) return [];
  const faults = listRegExps(text).flatMap(({ line, source, flags }) => {
    const fault = superLinearFault(source, flags);
    return fault === null ? [] : [`${path}:${line}: /${source}/${flags} ${fault}`];
  });
  if (/\bnew RegExp\(/.test(text))
    faults.push(`${path}: makes a regular expression of a text, which nothing here can judge`);
  const copies = text.matchAll(/(?<![\w.#])(\S+) = (?:\[\.{3}|Buffer\.concat\(\[)\1[,\]]/g);
  return [...faults, ...Array.from(copies, ([, name]) => `${path}: copies \`${name}\` to add to it`)];
}

/** The function, method or named arrow function that starts on a line; null where none does, or it ends there too. */
function functionStart(line: string): { readonly indent: string; readonly name: string } | null {
  if (/[;}]$/.test(line)) return null;
  const match =
    /^(\s*)(?:export )?(?:async )?function\*? (\w+)/.exec(line) ??
    /^(\s*)(?:export )?const (\w+)(?:: [^=]+)? = (?:async )?\(.*(?:=> \{|\()$/.exec(line) ??
    /^( {2})(?:(?:private|protected|public|static|async|override|get|set) )*\*?(#?\w+|\[[\w.]+\])(?:<[^(]*>)?\(.*(?:\{|\()$/.exec(
      line,
    );
  if (match === null || /^(?:if|for|while|switch|return|catch|function)$/.test(match[2] ?? "")) return null;
  return { indent: match[1] ?? "", name: match[2] ?? "" };
}
