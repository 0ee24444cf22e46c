import { expect, test } from "bun:test";
import { CONFIGURATION_DOC, formatConfigurationDoc } from "../scripts/docs.ts";
import { listOptions } from "../src/config/options.ts";

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
