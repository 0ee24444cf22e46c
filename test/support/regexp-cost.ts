/**
 * Finds regular expressions that may take more than linear time on a hostile text.
 *
 * Shape:  three forms, each judged by the sets of characters that parts of the expression take:
 *         - a repeat inside a repeat, with nothing between two rounds that only a boundary can be: `(?:a+)*`
 *         - two repeats that can share one run of characters: `a*b?a*x`
 *         - a repeat that a search starts anew at each character of a run, in front of something that may fail: `[ \t]+$`
 * Errors: it may refuse a harmless expression, which is then to be written otherwise; sets are compared on the characters of
 *         Latin-1 and a few more.
 */

/** Characters on which sets are compared. */
const ALPHABET = [
  ...Array.from({ length: 256 }, (_empty, code) => String.fromCharCode(code)),
  "\u0130",
  "\u2028",
  "\u20ac",
  "\ufeff",
];

/** A repeat of so many inside another of so many has as many ways as an endless one. */
const MANY = 10;

type CharSet = ReadonlySet<string>;

type Part =
  | { readonly kind: "chars"; readonly set: CharSet }
  /** Takes nothing, and may fail: `^`, `$`, or what a look ahead or behind looks for. */
  | { readonly kind: "assertion"; readonly edge: "start" | "end" | null; readonly looksFor: readonly Sequence[] }
  | { readonly kind: "group"; readonly alternatives: readonly Sequence[] }
  | { readonly kind: "repeat"; readonly body: Sequence; readonly min: number; readonly max: number };

type Sequence = readonly Part[];

/** Why an expression may take more than linear time; null where it does not. Both are as in a literal. */
export function superLinearFault(source: string, flags: string): string | null {
  const parser = new Parser(source, flags.replace(/[gyd]/g, ""));
  const alternatives = parser.alternatives();
  const isMultiline = flags.includes("m");
  for (const path of alternatives.flatMap(expand).flatMap(withLooks)) {
    const fault =
      nestedFault(path) ?? sharedRunFault(path) ?? (flags.includes("y") ? null : searchFault(path, isMultiline));
    if (fault !== null) return fault;
  }
  return null;
}

/** A way, and one more for each thing that a look in it looks for: up to the look, then that. It may fail at its end. */
function withLooks(path: Sequence): Sequence[] {
  const looks = path.flatMap((part, index) =>
    part.kind === "assertion"
      ? part.looksFor.flatMap(expand).map((found) => [...path.slice(0, index), ...found, NEVER])
      : [],
  );
  return [path, ...looks];
}

const NEVER: Part = { kind: "assertion", edge: null, looksFor: [] };

/** The regular expressions of a source text, as far as they are in the place of a value. Comments are skipped by line. */
export function listRegExps(
  text: string,
): { readonly line: number; readonly source: string; readonly flags: string }[] {
  const literal = /(?:^|[=(,:!&|?[{;]|=>|\breturn)\s*\/(?![/*])((?:[^/\\[]|\\.|\[(?:[^\]\\]|\\.)*\])+)\/([dgimsuvy]*)/g;
  return text.split("\n").flatMap((line, index) => {
    if (/^\s*(?:\/\/|\/?\*)/.test(line)) return [];
    return [...line.matchAll(literal)].map(([, source = "", flags = ""]) => ({ line: index + 1, source, flags }));
  });
}

/** A part of an expression, read from left to right. */
class Parser {
  readonly #source: string;
  readonly #flags: string;
  #at = 0;

  constructor(source: string, flags: string) {
    this.#source = source;
    this.#flags = flags;
  }

  alternatives(): Sequence[] {
    const found: Sequence[] = [];
    let sequence: Part[] = [];
    while (this.#at < this.#source.length && this.#source[this.#at] !== ")") {
      if (this.#source[this.#at] === "|") {
        this.#at++;
        found.push(sequence);
        sequence = [];
      } else {
        sequence.push(this.#repeated(this.#part()));
      }
    }
    return [...found, sequence];
  }

  #part(): Part {
    const rest = this.#source.slice(this.#at);
    const edge = /^(?:\^|\$|\\[bB])/.exec(rest)?.[0];
    if (edge !== undefined) {
      this.#at += edge.length;
      return { kind: "assertion", edge: edge === "^" ? "start" : edge === "$" ? "end" : null, looksFor: [] };
    }
    const opening = /^\((?:\?(?:<?[=!]|:|<\w+>))?/.exec(rest)?.[0];
    if (opening !== undefined) {
      this.#at += opening.length;
      const alternatives = this.alternatives();
      this.#at++;
      const looks = /[=!]$/.test(opening);
      return looks ? { kind: "assertion", edge: null, looksFor: alternatives } : { kind: "group", alternatives };
    }
    const one =
      /^(?:\[(?:[^\]\\]|\\.)*\]|\\u\{[^}]*\}|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[pP]\{[^}]*\}|\\c[A-Z]|\\.|.)/su.exec(
        rest,
      )?.[0] ?? "";
    this.#at += one.length;
    const matcher = new RegExp(`^(?:${one})$`, this.#flags);
    return { kind: "chars", set: new Set(ALPHABET.filter((char) => matcher.test(char))) };
  }

  #repeated(part: Part): Part {
    const [written, , from = "", comma, to = ""] =
      /^(?:([*+?])|\{(\d+)(,?)(\d*)\})\??/.exec(this.#source.slice(this.#at)) ?? [];
    if (written === undefined) return part;
    this.#at += written.length;
    const sign = written[0];
    const min = sign === "+" ? 1 : sign === "{" ? Number(from) : 0;
    const most = sign === "?" ? 1 : sign === "{" && comma === "" ? min : sign === "{" && to !== "" ? Number(to) : null;
    return { kind: "repeat", body: [part], min, max: most ?? Number.POSITIVE_INFINITY };
  }
}

/** All ways through the groups of a sequence that are taken once, or may be left out. */
function expand(sequence: Sequence): Part[][] {
  let paths: Part[][] = [[]];
  for (const part of sequence) {
    const ways =
      part.kind === "group"
        ? part.alternatives.flatMap(expand)
        : isOnceOrNever(part)
          ? [[], ...expand(part.body)]
          : [[part]];
    paths = paths.flatMap((path) => ways.map((way) => [...path, ...way]));
  }
  return paths;
}

function isOnceOrNever(part: Part): part is Extract<Part, { kind: "repeat" }> {
  return part.kind === "repeat" && part.min === 0 && part.max === 1;
}

/** All characters that a part may take. */
function charsOf(part: Part): CharSet {
  switch (part.kind) {
    case "chars":
      return part.set;
    case "assertion":
      return new Set();
    case "group":
      return union(part.alternatives.flat().map(charsOf));
    case "repeat":
      return union(part.body.map(charsOf));
  }
}

function union(sets: readonly CharSet[]): CharSet {
  return new Set(sets.flatMap((set) => [...set]));
}

function overlap(one: CharSet, other: CharSet): boolean {
  return !one.isDisjointFrom(other);
}

function isOptional(part: Part): boolean {
  if (part.kind === "group") return part.alternatives.some((alternative) => alternative.every(isOptional));
  return part.kind === "assertion" || (part.kind === "repeat" && (part.min === 0 || part.body.every(isOptional)));
}

/** Whether one of these parts must take a character, and can take none of this set: a run of the set ends there. */
function endsRun(parts: Sequence, run: CharSet): boolean {
  return parts.some((part) => !isOptional(part) && !overlap(charsOf(part), run));
}

/** What a sequence may begin with. */
function firstOf(sequence: Sequence): CharSet {
  const sets: CharSet[] = [];
  for (const part of sequence) {
    if (part.kind === "group") sets.push(...part.alternatives.map(firstOf));
    else if (part.kind === "repeat") sets.push(firstOf(part.body));
    else sets.push(charsOf(part));
    if (!isOptional(part)) break;
  }
  return union(sets);
}

function nestedFault(sequence: Sequence): string | null {
  for (const part of sequence) {
    if (part.kind !== "repeat") continue;
    const alternatives = part.body.flatMap((inner) => (inner.kind === "group" ? inner.alternatives : [[inner]]));
    if (isEndless(part)) {
      const firsts = alternatives.map(firstOf);
      if (firsts.some((first, index) => firsts.slice(index + 1).some((other) => overlap(first, other)))) {
        return "repeats a choice whose alternatives begin alike";
      }
    }
    for (const path of alternatives.flatMap(expand)) {
      const inner = path.filter(
        (one) => isUnbounded(one) || (one.kind === "repeat" && one.max >= MANY && one.max > one.min),
      );
      if (part.max >= MANY && inner.some((one) => !endsRun(path, charsOf(one)))) return "repeats a repeat";
      const fault = nestedFault(path) ?? sharedRunFault(path);
      if (fault !== null) return fault;
    }
  }
  return null;
}

/** Whether what follows a repeat may fail. `$` behind a repeat of everything cannot. */
function mayFail(run: CharSet, rest: Sequence): boolean {
  if (run.size === ALPHABET.length && rest.every((part) => part.kind === "assertion" && part.edge === "end"))
    return false;
  return rest.some((part) => part.kind === "assertion" || !isOptional(part));
}

function sharedRunFault(path: Sequence): string | null {
  for (const [index, first] of path.entries()) {
    if (!isUnbounded(first)) continue;
    for (const [distance, second] of path.slice(index + 1).entries()) {
      if (!isUnbounded(second)) continue;
      const at = index + 1 + distance;
      const [run, otherRun] = [charsOf(first), charsOf(second)];
      const between = path.slice(index + 1, at);
      const isApart = endsRun(between, run) || endsRun(between, otherRun) || !overlap(run, otherRun);
      if (!isApart && mayFail(otherRun, path.slice(at + 1))) return "has two repeats that can share one run";
    }
  }
  return null;
}

function searchFault(path: Sequence, isMultiline: boolean): string | null {
  const [start] = path;
  const isAnchored = start?.kind === "assertion" && start.edge === "start";
  if (isAnchored && !isMultiline) return null;
  for (const [index, part] of path.entries()) {
    if (!isUnbounded(part) || !mayFail(charsOf(part), path.slice(index + 1))) continue;
    // A search begins at line ends only, and no run goes past one.
    if (isAnchored && !charsOf(part).has("\n")) continue;
    if (!endsRun(path.slice(0, index), charsOf(part))) return "searches a run again from each of its characters";
  }
  return null;
}

function isUnbounded(part: Part): boolean {
  if (part.kind === "group") return part.alternatives.flat().some(isUnbounded);
  return part.kind === "repeat" && (isEndless(part) || part.body.some(isUnbounded));
}

function isEndless(part: Part): boolean {
  return part.kind === "repeat" && part.max === Number.POSITIVE_INFINITY;
}
