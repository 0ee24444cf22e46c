import { type TreeFault, valueAt } from "./faults.ts";
import { listOptions, type Option, optionName } from "./options.ts";
import { expandPath, replaceAt, type Tree } from "./tree.ts";

/** Options that a later version brings. Their defaults may be written; any other value must not be ignored silently. */
const LATER_OPTIONS: ReadonlySet<string> = new Set(["upstreams[].dialect"]);

/** Whether an option is read and checked, but does nothing in this version. */
export function isLater(option: Option): boolean {
  return LATER_OPTIONS.has(optionName(option));
}

/**
 * Finds options of a later version that are given another value than their default, and takes them out of the tree, so
 * that each is reported once.
 */
export function takeLaterOptions(tree: Tree): TreeFault[] {
  return listOptions()
    .filter(isLater)
    .flatMap((option) =>
      expandPath(option.path, tree).filter((path) => isChanged(valueAt(tree, path), option.fallback)),
    )
    .map((path) => {
      replaceAt(tree, path, undefined);
      return { path, message: "not in this version of hubwire; leave it out" };
    });
}

function isChanged(value: unknown, fallback: unknown): boolean {
  return value !== undefined && JSON.stringify(value) !== JSON.stringify(fallback);
}
