import { isAlias, isCollection, isMap, isPair, isScalar, type Node } from "yaml";
import type { Path } from "./faults.ts";

/**
 * The place of the last value of a YAML text, if the text may have been cut within it; null if the value is whole.
 *
 * Shape:  a value without quotes, an alias or a value in single quotes is whole once a line break or a comment follows;
 *         a block text (`|`, `>`) once anything follows. Double quotes and brackets end by their own sign.
 */
export function findOpenEnd(contents: Node | null, text: string): Path | null {
  let node: unknown = contents;
  const path: (string | number)[] = [];
  while (isCollection(node) && node.flow !== true) {
    const last = node.items.at(-1);
    if (isMap(node)) {
      if (!isPair(last) || !isScalar(last.key)) return null;
      path.push(String(last.key.value));
      node = last.value;
    } else {
      path.push(node.items.length - 1);
      node = last;
    }
  }
  return isScalar(node) || isAlias(node) ? (mayGoOn(node, text) ? path : null) : null;
}

function mayGoOn(node: Node, text: string): boolean {
  const style = isScalar(node) ? node.type : "PLAIN";
  const rest = text.slice(node.range?.[1] ?? text.length);
  if (style === "BLOCK_LITERAL" || style === "BLOCK_FOLDED") return rest.trim() === "";
  return style !== "QUOTE_DOUBLE" && !/[\n#]/.test(rest);
}

/** The places of keys with nothing behind them. YAML reads null there, but no value was written. */
export function listEmptyKeys(node: unknown, path: Path = []): Path[] {
  if (!isCollection(node)) return [];
  if (!isMap(node)) return node.items.flatMap((item, position) => listEmptyKeys(item, [...path, position]));
  return node.items.flatMap(({ key, value }) => {
    const inner = [...path, String(isScalar(key) ? key.value : key)];
    return isEmpty(value) ? [inner] : listEmptyKeys(value, inner);
  });
}

function isEmpty(value: unknown): boolean {
  return value === null || (isScalar(value) && value.value === null && (value.source ?? "") === "");
}
