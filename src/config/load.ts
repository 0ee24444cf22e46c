import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { hubKey } from "../protocol/names.ts";
import { readConfigFile } from "./config-file.ts";
import { defaultDataDir } from "./default-data-dir.ts";
import { type Draft, finishDraft, startDraft } from "./draft.ts";
import { ConfigError, type Fault, formatPath, type Path, type TreeFault, valueAt } from "./faults.ts";
import { findFileFaults, resolvePaths } from "./file-paths.ts";
import type { Config, HubConfig } from "./schema.ts";
import { assignValues, isTree, layOver, replaceAt, type Tree } from "./tree.ts";
import { type Assignment, readEnvironment, readFlags } from "./twins.ts";
import { findWarnings } from "./warnings.ts";
import type { ConfigFile } from "./yaml-text.ts";

/** Where a configuration comes from. */
export interface ConfigSources {
  /** The file to read; null: none; left out: `findConfigFile` looks for one. */
  readonly filePath?: string | null;
  /** The text of the file at `filePath`, if it was read already; null or left out: it is read. */
  readonly fileText?: string | null;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Texts by flag twin without dashes (`listen-port`), as `parseArgs` gives them. */
  readonly flags?: Readonly<Record<string, string>>;
  /** Where relative paths start that no file gives; the process's folder when left out. */
  readonly cwd?: string;
}

/** A configuration in force, and what its owner should know about it. */
export interface LoadedConfig {
  readonly config: Config;
  /** Sentences for the log; they hold no value of any key. */
  readonly warnings: readonly string[];
  /** The file that was read, as an absolute path; null where there was none. */
  readonly filePath: string | null;
  readonly written: Written;
}

/** What file, environment and flags give, before defaults are filled in. A value in it may be a secret. */
export interface Written {
  /** In the shape of the schema. A key with nothing behind it is left out: it has no value. */
  readonly tree: Tree;
  /** Whether the file says `templates` for `upstreams`. */
  readonly isTemplates: boolean;
  /** The file's last value, in the shape of the schema, if the file may have been cut within it. */
  readonly openEnd: Path | null;
}

/** Names that are looked for in the folder when no file is named. */
const DEFAULT_FILES = ["hubwire.yaml", "hubwire.yml", "hubwire.json"];
const UNNAMED = "The configuration";

/** The file to use when none is named: `HUBWIRE_CONFIG`, else the first of the usual names in the folder; else null. */
export function findConfigFile(env: ConfigSources["env"], cwd = process.cwd()): string | null {
  const named = env["HUBWIRE_CONFIG"];
  if (named !== undefined && named !== "") return resolve(cwd, named);
  return DEFAULT_FILES.map((name) => resolve(cwd, name)).find((path) => existsSync(path)) ?? null;
}

/**
 * Reads the configuration: flags over environment over file over defaults.
 *
 * Shape:  relative paths in the file start at its folder, those of flags and variables at `cwd`. Certificates and keys that
 *         options name must be readable files.
 * Errors: throws `ConfigError` with every fault at once; the caller prints its message and exits with 2.
 */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const cwd = sources.cwd ?? process.cwd();
  const named = sources.filePath === undefined ? findConfigFile(sources.env, cwd) : sources.filePath;
  const filePath = named === null ? null : resolve(cwd, named);
  const source = named ?? UNNAMED;
  const file = filePath === null ? null : openFile(filePath, { source, known: sources.fileText ?? null });
  const written = startDraft(file?.value ?? {});
  written.tree["dataDir"] ??= defaultDataDir(filePath, sources.env);
  resolvePaths(written.tree, filePath === null ? cwd : dirname(filePath));

  const environment = readEnvironment(sources.env);
  const flags = readFlags(sources.flags ?? {});
  const given = [...flags.values, ...environment.values];
  const draft = layOverDraft(written, [environment.values, flags.values], cwd);
  const result = finishDraft(draft);
  const found = "faults" in result ? result.faults : [];
  const faults = [
    ...environment.faults,
    ...flags.faults,
    ...[...found, ...findFileFaults(draft.tree)].map((fault) => placeFault(fault, draft, file, given)),
  ];
  if ("faults" in result || faults.length > 0) throw new ConfigError(source, faults);
  return {
    config: result.config,
    warnings: findWarnings(result.config),
    filePath,
    written: collectWritten(draft, file, given),
  };
}

function collectWritten(draft: Draft, file: ConfigFile | null, given: readonly Assignment[]): Written {
  const { tree, isTemplates } = draft;
  const inSchema = (path: Path) => (isTemplates && path[0] === "templates" ? ["upstreams", ...path.slice(1)] : path);
  for (const path of (file?.emptyKeys ?? []).map(inSchema)) {
    if (findGiver(given, path) === undefined && valueAt(tree, path) === null) replaceAt(tree, path, undefined);
  }
  const openEnd = file?.openEnd ?? null;
  return { tree, isTemplates, openEnd: openEnd === null ? null : inSchema(openEnd) };
}

/**
 * Checks an object in the shape of hubwire.yaml, for tests and for embedding.
 *
 * Shape:  paths stay as they are, and no file is looked at.
 * Errors: throws `ConfigError` with every fault at once.
 */
export function parseConfig(raw: unknown): Config {
  const draft = startDraft(raw);
  const result = finishDraft(draft);
  if ("config" in result) return result.config;
  throw new ConfigError(
    UNNAMED,
    result.faults.map((fault) => placeFault(fault, draft, null, [])),
  );
}

function openFile(filePath: string, { source, known }: { source: string; known: string | null }): ConfigFile {
  const file = readConfigFile(filePath, known);
  if (!("problems" in file)) return file;
  throw new ConfigError(
    source,
    file.problems.map((problem) => ({ path: "", ...problem })),
  );
}

function layOverDraft(draft: Draft, layers: readonly (readonly Assignment[])[], cwd: string): Draft {
  const faults = [...draft.faults];
  let tree = draft.tree;
  for (const values of layers) {
    const layer: Tree = {};
    assignValues(layer, values, faults);
    resolvePaths(layer, cwd);
    const merged = layOver(tree, layer);
    tree = isTree(merged) ? merged : tree;
  }
  return { ...draft, tree, faults };
}

/** Says where a fault comes from: the flag or variable that gave the value, else the place in the file. */
function placeFault(fault: TreeFault, draft: Draft, file: ConfigFile | null, given: readonly Assignment[]): Fault {
  const giver = findGiver(given, fault.path);
  if (giver !== undefined) return { path: formatPath(fault.path), message: fault.message, where: giver.where };
  const isRenamed = draft.isTemplates && fault.path[0] === "upstreams";
  const path = isRenamed ? ["templates", ...fault.path.slice(1)] : fault.path;
  return { path: formatPath(path), message: fault.message, where: file?.locate(path) ?? null };
}

/** The flag or variable that gives the value at a path, or a block or list around it. */
function findGiver(given: readonly Assignment[], path: Path): Assignment | undefined {
  return given.find((assignment) => assignment.path.every((key, position) => path[position] === key));
}

/** The options of a hub: its own settings, or those for all hubs. `hub` may be in any case. */
export function hubConfig({ hubs, anonymous, allowedOrigins, websocket }: Config, hub: string): HubConfig {
  return hubs[hubKey(hub)] ?? { anonymous, allowedOrigins, compression: websocket.compression };
}
