import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { readConfigFile } from "./config-file.ts";
import { defaultDataDir } from "./default-data-dir.ts";
import { type Draft, finishDraft, startDraft } from "./draft.ts";
import { ConfigError, type Fault, formatPath, type TreeFault } from "./faults.ts";
import { findFileFaults, resolvePaths } from "./file-paths.ts";
import type { Config } from "./schema.ts";
import { assignValues, isTree, layOver, type Tree } from "./tree.ts";
import { type Assignment, readEnvironment, readFlags } from "./twins.ts";
import { findWarnings } from "./warnings.ts";
import type { ConfigFile } from "./yaml-text.ts";

/** Where a configuration comes from. */
export interface ConfigSources {
  /** The file to read; null: none; left out: `findConfigFile` looks for one. */
  readonly filePath?: string | null;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Texts by flag twin without dashes (`listen-port`), as `parseArgs` gives them. */
  readonly flags?: Readonly<Record<string, string>>;
  /** Where relative paths start that no file gives; the process's folder when left out. */
  readonly cwd?: string;
}

/** A configuration in force, and what its owner should know about it. */
export interface LoadedConfig {
  readonly config: Config;
  /** Sentences for the log; no value of any key stands in them. */
  readonly warnings: readonly string[];
  /** The file that was read, as an absolute path; null where there was none. */
  readonly filePath: string | null;
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
  const file = filePath === null ? null : openFile(filePath, source);
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
  return { config: result.config, warnings: findWarnings(result.config), filePath };
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

function openFile(filePath: string, source: string): ConfigFile {
  const file = readConfigFile(filePath);
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
  const giver = given.find(({ path }) => path.every((key, position) => fault.path[position] === key));
  if (giver !== undefined) return { path: formatPath(fault.path), message: fault.message, where: giver.where };
  const isRenamed = draft.isTemplates && fault.path[0] === "upstreams";
  const path = isRenamed ? ["templates", ...fault.path.slice(1)] : fault.path;
  return { path: formatPath(path), message: fault.message, where: file?.locate(path) ?? null };
}
