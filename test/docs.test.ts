import { expect, test } from "bun:test";
import { CONFIGURATION_DOC, ERROR_CODES_DOC, formatConfigurationDoc, formatErrorCodesDoc } from "../scripts/docs.ts";
import { DROPPED_OPTIONS, isDeclared } from "../src/config/dropped-options.ts";
import { listOptions, optionName } from "../src/config/options.ts";
import { ERROR_CODES } from "../src/protocol/error-codes.ts";

test("docs/configuration.md is what the schema says; otherwise run `npm run docs`", async () => {
  expect(await Bun.file(CONFIGURATION_DOC).text()).toBe(formatConfigurationDoc());
});

test("every option has a row with a sentence", () => {
  const rows = formatConfigurationDoc().split("\n");
  for (const option of listOptions()) {
    const key = option.path.at(-1);
    expect(option.doc).toEndWith(".");
    expect(
      rows.filter((row) => row.startsWith(`| \`${key}\` `) && row.includes(option.doc.replaceAll("|", "\\|"))),
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

test("every error code has a row with its status and a sentence", () => {
  const cells = formatErrorCodesDoc()
    .split("\n")
    .map((row) => row.split(" | ").map((cell) => cell.replace(/^\| | *\|?$/g, "")));
  for (const [code, { status, meaning }] of Object.entries(ERROR_CODES)) {
    expect(meaning).toEndWith(".");
    expect(cells).toContainEqual([`\`${code}\``, String(status), meaning]);
  }
});
