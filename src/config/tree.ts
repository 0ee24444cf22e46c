import { type Path, type TreeFault, valueAt } from "./faults.ts";
import { listOptions } from "./options.ts";
import type { Assignment } from "./twins.ts";

/** A block of a configuration before it is checked. */
export type Tree = Record<string, unknown>;

/** Deeper than any option, so that an alias inside its own anchor ends somewhere. */
const MAX_DEPTH = 16;

const BLOCKS: ReadonlySet<string> = new Set(
  listOptions()
    .filter((option) => option.kind === "block")
    .map((option) => option.path.join(".")),
);

/** Whether a value is a block of keys: neither a list nor null. */
export function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Copies the written tree, so that it can be changed.
 *
 * `__proto__` as a key is refused here: the schema's library ignores it in maps.
 */
export function copyTree(value: unknown, faults: TreeFault[], path: Path = []): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (path.length > MAX_DEPTH) {
    faults.push({ path: path.slice(0, 3), message: "is nested too deep" });
    return null;
  }
  if (Array.isArray(value)) return value.map((item: unknown, position) => copyTree(item, faults, [...path, position]));
  const copy: Tree = {};
  for (const [key, item] of Object.entries(value)) {
    if (key === "__proto__") faults.push({ path: [...path, key], message: "no such key" });
    else copy[key] = copyTree(item, faults, [...path, key]);
  }
  return copy;
}

/** Puts values of the environment or of flags, blocks before their leaves, into a tree. */
export function assignValues(tree: Tree, values: readonly Assignment[], faults: TreeFault[]): void {
  for (const { path, value } of values) {
    let block = tree;
    for (const key of path.slice(0, -1)) {
      const inner = block[key];
      // A leaf's own twin may meet a block that is missing, or null.
      const next: Tree = isTree(inner) ? inner : {};
      block[key] = next;
      block = next;
    }
    const key = String(path.at(-1));
    block[key] = layOver(block[key], copyTree(value, faults, path), path.join("."));
  }
}

/** The result where `above` wins over `below`: blocks are merged key by key, all else is replaced whole. */
export function layOver(below: unknown, above: unknown, path = ""): unknown {
  if ((path !== "" && !BLOCKS.has(path)) || !isTree(below) || !isTree(above)) return above;
  const merged: Tree = { ...below };
  for (const [key, value] of Object.entries(above)) {
    merged[key] = layOver(below[key], value, path === "" ? key : `${path}.${key}`);
  }
  return merged;
}

/** The places that an option's path names in a tree: one for each entry of a list. */
export function expandPath(path: readonly string[], tree: Tree): Path[] {
  const list = path.indexOf("[]");
  if (list < 0) return [path];
  const entries = valueAt(tree, path.slice(0, list));
  if (!Array.isArray(entries)) return [];
  return entries.map((_, position) => [...path.slice(0, list), position, ...path.slice(list + 1)]);
}

/** Replaces, or with undefined removes, the value at a path; does nothing where its block is missing. */
export function replaceAt(tree: Tree, path: Path, value: unknown): void {
  const parent = valueAt(tree, path.slice(0, -1));
  const key = path.at(-1);
  if (typeof parent !== "object" || parent === null || key === undefined) return;
  if (value === undefined) Reflect.deleteProperty(parent, key);
  else Reflect.set(parent, key, value);
}
