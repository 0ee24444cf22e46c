import { DEFAULT_HUB, type HubSpellings, hubKey, isHubName } from "../protocol/names.ts";
import { hubsOfPaths } from "./client-paths.ts";
import { formatPath, type Path, type TreeFault, valueAt } from "./faults.ts";
import { type Pattern, readPattern } from "./patterns.ts";

/**
 * Collects how a checked configuration writes its hubs: as keys of `hubs`, as literal names of `hubPattern`, and in `paths`.
 *
 * Shape:  by `hubKey`. `_default` is missing: the protocol writes it, and in one way only.
 */
export function findHubSpellings(
  hubs: readonly string[],
  upstreams: readonly { readonly hubPattern: Pattern }[],
  paths: readonly { readonly hub: string }[],
): HubSpellings {
  const spellings: Record<string, string> = Object.create(null) as Record<string, string>;
  const inPatterns = upstreams.flatMap(({ hubPattern }) => (hubPattern === "*" ? [] : hubPattern));
  for (const name of [...hubs, ...inPatterns, ...paths.map(({ hub }) => hub)]) {
    const key = hubKey(name);
    if (key !== DEFAULT_HUB) spellings[key] ??= name;
  }
  return spellings;
}

/**
 * Finds patterns and items of `paths` that write a hub in another case than a place before them. Events carry one spelling, and a backend that compares
 * with the other one would not know its hub.
 *
 * Shape:  `tree` is a configuration as it was written. Two keys of `hubs` that differ in case only have a fault of their own.
 * Source: docs/decisions/0020.
 */
export function findSpellingFaults(tree: object): TreeFault[] {
  const faults: TreeFault[] = [];
  const first = new Map<string, { readonly name: string; readonly path: Path }>();
  for (const name of namesInHubs(tree)) {
    if (!first.has(hubKey(name))) first.set(hubKey(name), { name, path: ["hubs", name] });
  }
  const inPaths = hubsOfPaths(tree).map(({ name, position }) => ({ name, path: ["paths", position, "hub"] }));
  for (const { name, path } of [...namesInPatterns(tree), ...inPaths]) {
    const key = hubKey(name);
    const known = first.get(key);
    if (known === undefined) first.set(key, { name, path });
    else if (known.name !== name && key !== DEFAULT_HUB) faults.push({ path, message: sentenceFor(path, known.path) });
  }
  return faults;
}

/** Names no value: the rule of all faults. */
function sentenceFor(path: Path, other: Path): string {
  const where = formatPath(other);
  const what = where === formatPath(path) ? "writes a hub in two ways" : `writes a hub in another case than ${where}`;
  return `${what}: events carry one spelling of a hub, so write it in one way everywhere`;
}

/** The valid names among the keys of `hubs` of a configuration as it was written. */
export function namesInHubs(tree: object): string[] {
  const hubs = valueAt(tree, ["hubs"]);
  return typeof hubs !== "object" || hubs === null || Array.isArray(hubs) ? [] : Object.keys(hubs).filter(isHubName);
}

/** The hubs that patterns of a configuration as it was written name, each with the pattern's place. */
export function namesInPatterns(tree: object): { readonly name: string; readonly path: Path }[] {
  const upstreams = valueAt(tree, ["upstreams"]);
  if (!Array.isArray(upstreams)) return [];
  return upstreams.flatMap((_entry, position) => {
    const path = ["upstreams", position, "hubPattern"];
    return literalNames(valueAt(tree, path)).map((name) => ({ name, path }));
  });
}

function literalNames(written: unknown): string[] {
  const pattern = readPattern(written);
  return pattern === "*" ? [] : pattern.filter(isHubName);
}
