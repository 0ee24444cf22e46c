import { realpathSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { DEFAULT_DATA_DIR } from "./schema.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/", import.meta.url));

/**
 * The data folder where no file, variable or flag names one. A relative path starts at the configuration file's folder.
 *
 * The configuration of an example lies in the package, whose folder may be read-only and is packed and published as it is. Its data goes
 * to the user's data folder. Source: XDG Base Directory Specification; it says to ignore relative paths.
 */
export function defaultDataDir(filePath: string | null, env: Readonly<Record<string, string | undefined>>): string {
  const example = filePath === null ? null : exampleOf(filePath);
  if (example === null) return DEFAULT_DATA_DIR;
  const { XDG_DATA_HOME = "" } = env;
  const home = isAbsolute(XDG_DATA_HOME) ? XDG_DATA_HOME : join(env["HOME"] || homedir(), ".local", "share");
  return join(home, "hubwire", example);
}

/** The name of the example whose folder holds a file; null where none does. */
function exampleOf(filePath: string): string | null {
  const [name, ...rest] = relative(realPath(EXAMPLES), realPath(filePath)).split(sep);
  return name === undefined || name === ".." || isAbsolute(name) || rest.length === 0 ? null : name;
}

/** Package managers reach packages by symbolic links. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
