import { isCollection, isMap, isPair, isScalar, LineCounter, type Node, parseDocument } from "yaml";
import type { Path } from "./faults.ts";
import { findOpenEnd, listEmptyKeys } from "./file-end.ts";

/** What a configuration file holds: a tree of plain values, and the place of each. */
export interface ConfigFile {
  readonly value: unknown;
  /** `line 3, column 9` for the key at a path, or for the nearest block around it; null for an empty file. */
  locate(path: Path): string | null;
  /** Keys with nothing behind them, which read as null. */
  readonly emptyKeys: readonly Path[];
  /** The last value, if the file may have been cut within it. */
  readonly openEnd: Path | null;
}

/** A file that cannot be read as YAML or JSON: sentences with their places, none with a text from the file. */
export interface UnreadableFile {
  readonly problems: readonly { readonly message: string; readonly where: string | null }[];
}

const BAD_ALIAS = "an alias (*name) has no anchor (&name) above it";

/** The meanings of the parser's codes. Its own sentences quote the file, and a quote may be a secret. */
const SYNTAX_PROBLEMS: Readonly<Record<string, string>> = {
  BAD_INDENT: "the indentation does not fit the lines above",
  TAB_AS_INDENT: "a tab is used where only spaces may indent",
  DUPLICATE_KEY: "this key is repeated in the same block",
  MISSING_CHAR: "a closing quote, bracket, comma or colon is missing",
  MULTILINE_IMPLICIT_KEY: "a colon is missing, or a text goes over several lines without quotes",
  BLOCK_AS_IMPLICIT_KEY: "two keys are on one line, or the indentation is wrong",
  MULTIPLE_DOCS: "the file holds several documents (---); write one only",
  BAD_ALIAS,
  BAD_SCALAR_START: "a text that starts with such a character needs quotes",
  UNEXPECTED_TOKEN: "this text is not valid here",
  TAG_RESOLVE_FAILED: "this tag (!name) has no meaning here",
};

/** Reads a text as YAML, and knows the place of each value. */
export function parseYaml(text: string): ConfigFile | UnreadableFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problems = [...document.errors, ...document.warnings].map((problem) => ({
    message: SYNTAX_PROBLEMS[problem.code] ?? `this is not valid YAML (${problem.code})`,
    where: formatPlace(lines, problem.pos[0]),
  }));
  if (problems.length > 0) return { problems };
  try {
    return {
      value: document.toJS(),
      locate: (path) => locate(document.contents, lines, path),
      emptyKeys: listEmptyKeys(document.contents),
      openEnd: findOpenEnd(document.contents, text),
    };
  } catch (error) {
    // Only aliases end here. A few lines of them can expand to gigabytes, so the parser counts them.
    const isTooMany = error instanceof Error && error.message.startsWith("Excessive alias count");
    const message = isTooMany ? "the file uses aliases (*name) too often" : BAD_ALIAS;
    return { problems: [{ message, where: null }] };
  }
}

function locate(contents: Node | null, lines: LineCounter, path: Path): string | null {
  let node: unknown = contents;
  let offset = contents?.range?.[0];
  for (const key of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
      if (pair === undefined) break;
      offset = isScalar(pair.key) ? (pair.key.range?.[0] ?? offset) : offset;
      node = pair.value;
    } else {
      const item: unknown = isCollection(node) && typeof key === "number" ? node.items[key] : undefined;
      if (item === undefined || isPair(item)) break;
      node = item;
      offset = (item as Node).range?.[0] ?? offset;
    }
  }
  return offset === undefined ? null : formatPlace(lines, offset);
}

function formatPlace(lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `line ${line}, column ${col}`;
}
