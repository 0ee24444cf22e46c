import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  BANNED_PHRASES,
  EARLIER_TERMS,
  findDeadLinks,
  findDeadReferences,
  findLongMarkdown,
  findPhrases,
  type TextFile,
  UNREADABLE_SOURCES,
} from "./support/reading.ts";

const ROOT = join(import.meta.dir, "..");

/** Folders of code whose identifiers, comments and texts are read. */
const CODE_FOLDERS = ["bench", "bin", "deploy", "docs", "examples", "scripts", "src", "test"];

/** Files that hold a banned phrase because they speak of it, and files of earlier versions, which do not change. */
const NOT_READ = ["test/reading.test.ts", "test/support/reading.ts", "test/fixtures/"];

const CODE = /(?:\.(?:ts|mjs|js|c|h|py|sh|css|html|json|toml|ya?ml|conf|service)|Dockerfile)$/;

function readFiles(folder: string, wanted: RegExp): TextFile[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name).replaceAll("\\", "/"))
    .filter((path) => wanted.test(path) && !/(?:^|\/)node_modules\//.test(path))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") }));
}

const documents = [
  ...readdirSync(ROOT)
    .filter((name) => name.endsWith(".md"))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") })),
  ...CODE_FOLDERS.flatMap((folder) => readFiles(folder, /\.md$/)),
];

function readCode(folder: string): TextFile[] {
  return readFiles(folder, CODE).filter(({ path }) => !NOT_READ.some((prefix) => path.startsWith(prefix)));
}

describe("Markdown", () => {
  test("is read whole", () => {
    const paths = documents.map(({ path }) => path);
    for (const path of [
      "README.md",
      "PROTOCOL.md",
      "docs/decisions/0001-own-http-client-from-the-start.md",
      "bench/README.md",
    ]) {
      expect(paths).toContain(path);
    }
  });

  test("has no banned phrase", () => {
    expect(documents.flatMap((file) => findPhrases(file, BANNED_PHRASES))).toEqual([]);
  });

  test("cites what is there", () => {
    expect(documents.flatMap((file) => findDeadReferences(file, documents))).toEqual([]);
    expect(documents.flatMap((file) => findPhrases(file, UNREADABLE_SOURCES))).toEqual([]);
  });

  test("links to what is there", () => {
    const exists = (path: string) => existsSync(join(ROOT, path));
    expect(documents.flatMap((file) => findDeadLinks(file, documents, exists))).toEqual([]);
  });

  test("has short lines and short table cells", () => {
    expect(documents.flatMap(findLongMarkdown)).toEqual([]);
  });
});

describe.each(CODE_FOLDERS)("%s", (folder) => {
  const files = readCode(folder);

  test("has no banned phrase", () => {
    expect(files).not.toBeEmpty();
    expect(files.flatMap((file) => findPhrases(file, BANNED_PHRASES))).toEqual([]);
  });

  test("uses the terms of ARCHITECTURE.md", () => {
    expect(files.flatMap((file) => findPhrases(file, EARLIER_TERMS))).toEqual([]);
  });

  test("cites what is there", () => {
    expect(files.flatMap((file) => findDeadReferences(file, documents))).toEqual([]);
    expect(files.flatMap((file) => findPhrases(file, UNREADABLE_SOURCES))).toEqual([]);
  });
});

describe("the reader itself", () => {
  const PROTOCOL = { path: "PROTOCOL.md", text: "# Protocol\n\n## What the client gets\n\n**Pings.** Of a client.\n" };
  const DECISION = { path: "docs/decisions/0012-a-log.md", text: "# 0012: A log\n" };
  const KNOWN = [PROTOCOL, DECISION];
  const phrases = (text: string) => findPhrases({ path: "a.ts", text }, BANNED_PHRASES);
  const references = (text: string) => findDeadReferences({ path: "a.ts", text }, KNOWN);
  const links = (text: string) =>
    findDeadLinks({ path: "docs/b.md", text }, KNOWN, (path) => path === "docs/there.txt");
  const long = (text: string) => findLongMarkdown({ path: "b.md", text });

  test.each([
    ["in a sentence", "// There is none.", 'a.ts:1: says "is none"'],
    ["in capitals", "/** Whoever asks. */", 'a.ts:1: says "whoever"'],
    ["of one word", "// It is beside it.", 'a.ts:1: says "beside"'],
    ["across lines of a comment", "/**\n * A bug of\n * ours.\n */", 'a.ts:2: says "of ours"'],
    ["across lines of a paragraph", "It waits for\never.", 'a.ts:1: says "for ever"'],
    ["in a camelCase name", "const userIsNone = areNone(a);", 'a.ts:1: names "areNone"'],
    ["in a kebab-case name", 'import "./by-itself.ts";', 'a.ts:1: names "by-itself"'],
  ])("finds a phrase %s", (_, text, fault) => expect(phrases(text)).toEqual([fault]));

  test("finds no phrase within other words", () => {
    expect(phrases("// for every hub; this nonetheless; of course; sea nonce; is nonempty; besides; standing")).toEqual(
      [],
    );
  });

  test.each([
    ["an RFC that is not listed", "// RFC 1149", "cites RFC 1149"],
    ["a section without its RFC", "// Source: section 5.2.", 'cites "section 5.2'],
    ["a section in another form", "// RFC 9110 section 7.6.1", 'cites "section 7.6.1'],
    ["a section that the RFC does not have", "// RFC 9110, section 99.1", "section 99.1, which it does not have"],
    ["the second of two sections", "// RFC 9112, sections 6 and 60", "section 60, which it does not have"],
    ["a decision", "// decision 0099", "decision 0099"],
    ["the second of two decisions", "// decisions 0012 and 0098", "decision 0098"],
    ["a document", "// docs/missing.md", "names docs/missing.md"],
    ["an anchor", "// PROTOCOL.md#missing", "PROTOCOL.md#missing"],
    ["a part of a document", '// PROTOCOL.md, "Missing"', '"Missing", which has no such part'],
    ["the second of two parts", '// PROTOCOL.md, "Pings" and "Pongs"', '"Pongs", which has no such part'],
  ])("finds a dead reference to %s", (_, text, fault) => {
    expect(references(text)).toHaveLength(1);
    expect(references(text)[0]).toContain(fault);
  });

  test("takes references that resolve", () => {
    const text = [
      "// RFC 9110, sections 5 and 7.6.1; RFC 6455; sqlite.org/fileformat2, section 1.3",
      '// decision 0012; PROTOCOL.md, "What the client gets" and "Pings"; PROTOCOL.md#what-the-client-gets',
    ].join("\n");
    expect(references(text)).toEqual([]);
  });

  test("finds dead links, and takes others", () => {
    expect(links("[a](../PROTOCOL.md#pings) [b](missing.md)")).toEqual([
      "docs/b.md:1: PROTOCOL.md has no heading #pings",
      "docs/b.md:1: links to missing.md, which is not there",
    ]);
    const good = "[a](../PROTOCOL.md#what-the-client-gets) [b](there.txt) [c](https://x.example/y#z)";
    expect(links(good)).toEqual([]);
  });

  test("finds long lines and cells, and takes those at the limit", () => {
    expect(long(`${"a".repeat(160)}\n| ${"b".repeat(80)} |`)).toEqual([]);
    expect(long(`${"a".repeat(161)}\n| ${"b".repeat(81)} |`)).toEqual([
      "b.md:1: has 161 characters",
      "b.md:2: has a table cell of 81 characters",
    ]);
  });
});
