/** A text file of the repository: its path from the repository's root, with `/`, and its text. */
export type TextFile = { readonly path: string; readonly text: string };

/** Phrases that a reader stumbles over, in lower case. They are found across line breaks and in camelCase names. */
export const BANNED_PHRASES: readonly string[] = [
  "is none",
  "are none",
  "of ours",
  "whoever",
  "whatever",
  "for ever",
  "by itself",
  "beside",
  "stand",
  "stands",
  "stood",
];

/** Papers that no reader has: texts cite PROTOCOL.md, an RFC or a decision. */
export const UNREADABLE_SOURCES: readonly string[] = [
  "the spec",
  "spec section",
  "spec sections",
  "of the spec",
  "the issue",
  "the design",
];

/** Earlier words for the terms of ARCHITECTURE.md, in code and its comments: a replica is the copy of a node's journal in NATS. */
export const EARLIER_TERMS: readonly string[] = [
  "journal's copy",
  "the copy of the journal",
  "node's log",
  "nodes' log",
  "nodes' logs",
];

/** RFCs that are cited, each with the number of its last section. A number above it is a wrong citation. */
export const CITED_RFCS: ReadonlyMap<number, number> = new Map([
  [1950, 3],
  [2606, 6],
  [2765, 7],
  [3056, 14],
  [3879, 8],
  [3986, 10],
  [4291, 6],
  [4380, 11],
  [4559, 8],
  [6052, 8],
  [5246, 12],
  [5288, 9],
  [6066, 13],
  [6455, 14],
  [6749, 13],
  [6750, 9],
  [6890, 7],
  [7515, 13],
  [7518, 11],
  [7519, 13],
  [7692, 13],
  [7797, 10],
  [7932, 15],
  [8215, 9],
  [8305, 12],
  [8446, 13],
  [9110, 19],
  [9111, 10],
  [9112, 14],
  [9530, 10],
]);

/** Other papers whose sections are cited by number. */
const SECTIONED = ["sqlite.org/fileformat2"];

const MAX_MARKDOWN_LINE = 160;
const MAX_CELL = 80;

/** Returns a fault for each banned phrase, in words and in camelCase or kebab-case names. */
export function findPhrases(file: TextFile, phrases: readonly string[]): string[] {
  const flat = flatten(file.text);
  const text = flat.text.toLowerCase();
  const spoken = phrases.flatMap((phrase) =>
    positionsOf(text, phrase).map((at) => `${file.path}:${flat.lineAt(at)}: says "${phrase}"`),
  );
  const lines = file.text.split("\n");
  const named = phrases.flatMap((phrase) => {
    const [first = "", ...rest] = phrase.split(" ");
    if (rest.length === 0) return [];
    const camel = rest.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
    return lines.flatMap((line, index) => {
      const found = [first + camel, `${first}-${rest.join("-")}`].find((name) => line.includes(name));
      return found === undefined ? [] : [`${file.path}:${index + 1}: names "${found}"`];
    });
  });
  return [...spoken, ...named];
}

/** Returns a fault for each citation that leads nowhere: of an RFC, a decision, a document or a document's part. */
export function findDeadReferences(file: TextFile, documents: readonly TextFile[]): string[] {
  const flat = flatten(file.text);
  const at = (index: number, fault: string) => `${file.path}:${flat.lineAt(index)}: ${fault}`;
  return [
    ...rfcFaults(flat.text, at),
    ...decisionFaults(flat.text, documents, at),
    ...documentFaults(flat.text, documents, at),
  ];
}

/** Returns a fault for each link of a Markdown file that leads to no file or no heading of the repository. */
export function findDeadLinks(
  file: TextFile,
  documents: readonly TextFile[],
  exists: (path: string) => boolean,
): string[] {
  const faults: string[] = [];
  for (const match of file.text.matchAll(/\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]*))?\)/g)) {
    const [, link = "", anchor] = match;
    const path = link === "" ? file.path : resolveLink(file.path, link);
    const line = file.text.slice(0, match.index).split("\n").length;
    const target = documents.find((document) => document.path === path);
    if (target === undefined && !exists(path))
      faults.push(`${file.path}:${line}: links to ${link}, which is not there`);
    else if (anchor !== undefined && target !== undefined && !headingAnchors(target.text).includes(anchor)) {
      faults.push(`${file.path}:${line}: ${path} has no heading #${anchor}`);
    }
  }
  return faults;
}

/** Returns a fault for each line and table cell of a Markdown file that is too long to be read raw. */
export function findLongMarkdown(file: TextFile): string[] {
  return file.text.split("\n").flatMap((line, index) => {
    const where = `${file.path}:${index + 1}:`;
    const faults = line.length > MAX_MARKDOWN_LINE ? [`${where} has ${line.length} characters`] : [];
    if (!line.startsWith("|")) return faults;
    const cells = line
      .replaceAll("\\|", "/")
      .split("|")
      .map((cell) => cell.trim());
    const long = cells.filter((cell) => cell.length > MAX_CELL && !/^-+$/.test(cell));
    return [...faults, ...long.map((cell) => `${where} has a table cell of ${cell.length} characters`)];
  });
}

/** The anchors under which GitHub finds a document's headings. */
export function headingAnchors(text: string): string[] {
  return headingsOf(text).map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

type Flat = { readonly text: string; lineAt(index: number): number };
type Locate = (index: number, fault: string) => string;

/** Joins the lines of a text by one space, without indents and the marks of comments, so that a phrase may span lines. */
function flatten(text: string): Flat {
  const starts: number[] = [];
  let joined = "";
  for (const line of text.split("\n")) {
    starts.push(joined.length);
    joined += `${line
      .trim()
      .replace(/^(?:\/\*\*?|\*\/|\*(?!\*)|\/\/|#+|>|-) ?/, "")
      .trim()} `;
  }
  return { text: joined, lineAt: (index) => starts.findLastIndex((start) => start <= index) + 1 };
}

function positionsOf(text: string, phrase: string): number[] {
  const found: number[] = [];
  for (let at = text.indexOf(phrase); at !== -1; at = text.indexOf(phrase, at + 1)) {
    if (!isWordCharacter(text[at - 1]) && !isWordCharacter(text[at + phrase.length])) found.push(at);
  }
  return found;
}

function isWordCharacter(character: string | undefined): boolean {
  return character !== undefined && /[\p{L}\p{N}_]/u.test(character);
}

/** `RFC 9110, section 7.6.1` and `RFC 9110, sections 5 and 7.6.1`: of an RFC that is listed, and a section that it has. */
function rfcFaults(text: string, at: Locate): string[] {
  const faults: string[] = [];
  const sections = new Set<number>();
  for (const match of text.matchAll(/RFC (\d{1,5})(\]\([^)]*\))?(, sections? )?/g)) {
    const [all, number = "", , words] = match;
    const last = CITED_RFCS.get(Number(number));
    if (last === undefined)
      faults.push(at(match.index, `cites RFC ${number}, which test/support/reading.ts does not list`));
    if (words === undefined) continue;
    const start = match.index + all.length;
    sections.add(start - words.length + 2);
    const list = /^\d[\d.]*(?:(?:, | and | to )\d[\d.]*)*/.exec(text.slice(start, start + 80))?.[0] ?? "";
    const wrong = list.split(/, | and | to /).find((section) => !(Number.parseInt(section, 10) <= (last ?? 0)));
    if (wrong !== undefined)
      faults.push(at(match.index, `cites RFC ${number}, section ${wrong}, which it does not have`));
  }
  for (const { index } of text.matchAll(/\bsections? \d/g)) {
    const named =
      sections.has(index) || SECTIONED.some((name) => text.startsWith(`${name}, `, index - name.length - 2));
    if (!named) faults.push(at(index, `cites "${text.slice(index, index + 14)}"; write "RFC 9110, section 7.6.1"`));
  }
  return faults;
}

function decisionFaults(text: string, documents: readonly TextFile[], at: Locate): string[] {
  const numbers = new Set(documents.map(({ path }) => /^docs\/decisions\/(\d{4})-/.exec(path)?.[1]));
  const faults: string[] = [];
  for (const match of text.matchAll(/\bdecisions?[ /](\d{4})(?:(?:, | and )(\d{4}))?/gi)) {
    for (const number of match.slice(1)) {
      if (number !== undefined && !numbers.has(number))
        faults.push(at(match.index, `cites decision ${number}, which is not there`));
    }
  }
  return faults;
}

/** `docs/scaling.md`, and `PROTOCOL.md, "Words"`: a heading, a bold lead or the code at the start of a list entry. */
function documentFaults(text: string, documents: readonly TextFile[], at: Locate): string[] {
  const faults: string[] = [];
  for (const match of text.matchAll(
    /(?<![\w./:}-])((?:\.{0,2}\/)*[\w-][\w/-]*\.md)(#[\w-]+)?((?:(?:,| and) "[^"]+")*)/g,
  )) {
    const [, name = "", anchor, quoted = ""] = match;
    const plain = name.replace(/^[./]+/, "");
    const document = documents.find((one) => one.path === plain || one.path.endsWith(`/${plain}`));
    if (document === undefined) {
      faults.push(at(match.index, `names ${name}, which is not there`));
      continue;
    }
    if (anchor !== undefined && !headingAnchors(document.text).includes(anchor.slice(1))) {
      faults.push(at(match.index, `cites ${name}${anchor}, which has no such heading`));
    }
    for (const [, part = ""] of quoted.matchAll(/"([^"]+)"/g)) {
      if (partsOf(document.text).has(part.replaceAll("`", "").toLowerCase())) continue;
      faults.push(at(match.index, `cites ${name}, "${part}", which has no such part`));
    }
  }
  return faults;
}

function partsOf(text: string): ReadonlySet<string> {
  const leads = [...text.matchAll(/^(?:- )?\*\*([^*]+)\*\*/gm)].map(([, lead = ""]) => lead.replace(/[.:]$/, ""));
  const codes = [...text.matchAll(/^- `([^`]+)`/gm)].map(([, code = ""]) => code);
  return new Set([...headingsOf(text), ...leads, ...codes].map((part) => part.replaceAll("`", "").toLowerCase()));
}

function headingsOf(text: string): string[] {
  return [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = ""]) => heading);
}

function resolveLink(from: string, link: string): string {
  const parts = from.split("/").slice(0, -1);
  for (const part of link.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}
