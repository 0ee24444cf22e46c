import { isAbsolute } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Flags that Bun is started with, so that files of the current folder neither run code in hubwire nor stop its start. Processes that
 * hubwire itself starts get them by `process.execArgv`. Source: decision 0022.
 */
export const BUN_FLAGS = [
  // Without it Bun runs the modules that the `preload` of ./bunfig.toml names. With `-c FILE` it would still read that one.
  `--config=${fileURLToPath(new URL("empty-bunfig.toml", import.meta.url))}`,
  // Without it the `paths` of ./tsconfig.json, or of one above the package, replace hubwire's own modules and packages.
  `--tsconfig-override=${fileURLToPath(new URL("empty-tsconfig.json", import.meta.url))}`,
  "--no-env-file",
  "--no-install",
];

/**
 * Variables that Bun is started with, since it reads them before any script; the user's own go before them.
 *
 * Bun's allocator looks for memory to give back to the system whenever the event loop comes to rest, at most once in so many
 * milliseconds. Every 100 ms, as it is without this, costs an idle gateway a fifth of its CPU. Memory that is no longer needed
 * is given back two seconds later at most.
 */
export const BUN_SETTINGS = { MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "2000" };

/**
 * Turns off Bun's cache of compiled sources where the variables that place it are relative or empty: the cache would be in the
 * current folder, and Bun runs what it finds there.
 */
export function cacheSettings({ XDG_CACHE_HOME, HOME }) {
  return isAbsolute(XDG_CACHE_HOME ?? HOME ?? "") ? {} : { BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0" };
}
