import { covers, parsePattern } from "../protocol/client-paths.ts";
import { isHubName } from "../protocol/names.ts";
import { MAX_CLIENT_PATHS, patternFault } from "./client-path-schema.ts";
import { formatPath, type TreeFault, valueAt } from "./faults.ts";

/**
 * Finds patterns that no path reaches, since an earlier one matches all of them.
 *
 * Shape:  `tree` is a configuration as it was written. A pattern with a fault of its own is passed over.
 */
export function findUnreachedPatterns(tree: object): TreeFault[] {
  const items = valueAt(tree, ["paths"]);
  // A list that is too long is a fault already, and each pattern here is compared with all others.
  if (!Array.isArray(items) || items.length > MAX_CLIENT_PATHS) return [];
  const patterns = items.map((_, position) => {
    const written = valueAt(tree, ["paths", position, "pattern"]);
    return typeof written === "string" && patternFault(written) === null ? parsePattern(written) : null;
  });
  return patterns.flatMap((later, position) => {
    if (later === null) return [];
    const earlier = patterns.slice(0, position).findIndex((known) => known !== null && covers(known, later));
    if (earlier === -1) return [];
    const message = `never matches: ${formatPath(["paths", earlier])} matches the same paths and comes first. Put this item before that one, or remove it`;
    return [{ path: ["paths", position, "pattern"], message }];
  });
}

/** The names of hubs in `paths`, with their places. The schema judges the rest. */
export function hubsOfPaths(tree: object): { readonly name: string; readonly position: number }[] {
  const items = valueAt(tree, ["paths"]);
  if (!Array.isArray(items)) return [];
  return items.flatMap((_, position) => {
    const name = valueAt(tree, ["paths", position, "hub"]);
    return typeof name === "string" && isHubName(name) ? [{ name, position }] : [];
  });
}
