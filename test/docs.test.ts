import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { CONFIGURATION_DOC, ERROR_CODES_DOC, formatConfigurationDoc, formatErrorCodesDoc } from "../scripts/docs.ts";
import { DROPPED_OPTIONS, isDeclared } from "../src/config/dropped-options.ts";
import { listOptions, optionName } from "../src/config/options.ts";
import { ERROR_CODES } from "../src/protocol/error-codes.ts";

const ROOT = join(import.meta.dir, "..");

test("docs/configuration.md is what the schema says; otherwise run `npm run docs`", async () => {
  expect(await Bun.file(CONFIGURATION_DOC).text()).toBe(formatConfigurationDoc());
});

test("every option has an entry with a sentence", () => {
  const entries = entriesOf(formatConfigurationDoc());
  for (const option of listOptions()) {
    expect(option.doc).toEndWith(".");
    expect(
      entries.filter((entry) => entry.startsWith(`**\`${option.path.at(-1)}\`**: `) && entry.endsWith(option.doc)),
    ).not.toBeEmpty();
  }
});

test("every option says in src/config/dropped-options.ts what a reload opens that leaves it out", () => {
  const missing = listOptions().filter((option) => !isDeclared(option));
  expect(missing.map(optionName)).toEqual([]);
  const known = new Set(listOptions().map(optionName));
  expect(Object.keys(DROPPED_OPTIONS).filter((name) => !known.has(name))).toEqual([]);
});

test("docs/error-codes.md is what the table of codes says; otherwise run `npm run docs`", async () => {
  expect(await Bun.file(ERROR_CODES_DOC).text()).toBe(formatErrorCodesDoc());
});

test("every error code has an entry with its status and a sentence", () => {
  const entries = entriesOf(formatErrorCodesDoc());
  for (const [code, { status, meaning }] of Object.entries(ERROR_CODES)) {
    expect(meaning).toEndWith(".");
    expect(entries).toContain(`**\`${code}\`** (${status}): ${meaning}`);
  }
});

/** The entries of a document's lists, each on one line. */
function entriesOf(text: string): string[] {
  return text.split(/^- |^#+ .*$/m).map((entry) =>
    entry
      .trim()
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "")
      .join(" "),
  );
}

test("the table of terms in ARCHITECTURE.md has at most 20, each once", async () => {
  const text = await Bun.file(join(ROOT, "ARCHITECTURE.md")).text();
  const [, table = ""] = /^## Terms$([\s\S]*?)^## /m.exec(text) ?? [];
  const terms = [...table.matchAll(/^\| ([\w ]+?) +\| /gm)].map(([, term]) => term).slice(1);
  expect(terms).toContain("entry");
  expect(terms.length).toBeLessThanOrEqual(20);
  expect(new Set(terms).size).toBe(terms.length);
});

test("the map of ARCHITECTURE.md has each folder of src: a heading, a paragraph of two or three sentences, a list", async () => {
  const text = await Bun.file(join(ROOT, "ARCHITECTURE.md")).text();
  const [, map = ""] = /^## Map of src$([\s\S]*?)^## /m.exec(text) ?? [];
  const parts = map.split(/^### /m).slice(1);
  const folders = readdirSync(join(ROOT, "src"), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(parts.map((part) => /^[\w-]+(?=\/\n\n)/.exec(part)?.[0] ?? part).toSorted()).toEqual(
    folders.map(({ name }) => name).toSorted(),
  );
  for (const part of parts) {
    const [heading = "", paragraph = "", list = "", ...rest] = part.trim().split("\n\n");
    const sentences = paragraph.split(/[.](?=\s|$)/).length - 1;
    expect([heading, sentences === 2 || sentences === 3]).toEqual([heading, true]);
    expect([heading, list.startsWith("- `"), rest]).toEqual([heading, true, []]);
  }
});

describe("docs/decisions", () => {
  const folder = join(ROOT, "docs/decisions");
  const names = readdirSync(folder).toSorted();
  const numberOf = (name: string) => name.slice(0, 4);
  const numbers = new Set(names.map(numberOf));

  test.each(names)("%s has its number, a status and at most 60 lines", async (name) => {
    expect(name).toMatch(/^\d{4}-[a-z0-9-]+\.md$/);
    const text = await Bun.file(join(folder, name)).text();
    const [title = "", status = "", ...rest] = text.split("\n\n");
    expect(title).toStartWith(`# ${numberOf(name)}: `);
    expect(status.replaceAll("\n", " ")).toMatch(/^Status: (?:in force|in force, except .+|replaced by .+)\.$/);
    const later = Array.from(status.matchAll(/\[(\d{4})\]\(\1-/g), ([, number = ""]) => number);
    expect([status, later.length > 0]).toEqual([status, status !== "Status: in force."]);
    expect(later.filter((number) => !numbers.has(number) || number <= numberOf(name))).toEqual([]);
    expect(rest).not.toBeEmpty();
    expect(text.trimEnd().split("\n").length).toBeLessThanOrEqual(60);
  });

  test("no two have one number", () => expect(numbers.size).toBe(names.length));
});
