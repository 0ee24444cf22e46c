import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfigFile } from "./config-file.ts";

const folder = mkdtempSync(join(tmpdir(), "hubwire-config-file-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function read(name: string, text: string) {
  const path = join(folder, name);
  writeFileSync(path, text);
  return readConfigFile(path);
}

function problemsOf(name: string, text: string) {
  const file = read(name, text);
  return "problems" in file ? file.problems : [];
}

function fileOf(name: string, text: string) {
  const file = read(name, text);
  if ("problems" in file) throw new Error(JSON.stringify(file.problems));
  return file;
}

test("reads YAML and knows the place of each key", () => {
  const file = fileOf("a.yaml", "listen:\n  port: 1\nupstreams:\n  - a: 1\n    b: 2\n");
  expect(file.value).toEqual({ listen: { port: 1 }, upstreams: [{ a: 1, b: 2 }] });
  expect(file.locate(["listen", "port"])).toBe("line 2, column 3");
  expect(file.locate(["upstreams", 0, "b"])).toBe("line 5, column 5");
});

test("a key that is missing is placed at the block around it", () => {
  const file = fileOf("a.yaml", "a: 1\nlisten:\n  tls: {}\n");
  expect(file.locate(["listen", "tls", "certFile"])).toBe("line 3, column 3");
});

test("reads JSON, tabs and all, and knows the place of each key", () => {
  const file = fileOf("a.json", '{\n\t"listen": {\n\t\t"port": 1\n\t}\n}\n');
  expect(file.value).toEqual({ listen: { port: 1 } });
  expect(file.locate(["listen", "port"])).toBe("line 3, column 3");
});

test("takes no text inside a JSON string for a key", () => {
  const text = '{"a": "b\\":", "c\\\\": [{"a": "\\\\"}, "d", ":"], "__proto__": {"e" \n: 1}}';
  expect(fileOf("a.json", text).value).toEqual(JSON.parse(text));
});

test("an empty file holds nothing", () => {
  expect(fileOf("a.yaml", "# nothing yet\n").value).toBeNull();
});

for (const [what, name, text, message, where] of [
  ["a repeated key", "a.yaml", "a: 1\nb: 2\na: 3\n", "this key is repeated in the same block", "line 3, column 1"],
  [
    "a repeated key in JSON",
    "a.json",
    '{"a": 1,\n"a": 2}',
    "this key is repeated in the same block",
    "line 2, column 1",
  ],
  ["a tab", "a.yaml", "a:\n\tb: 1\n", "a tab is used where only spaces may indent", "line 2, column 1"],
  ["an unknown alias", "a.yaml", "a: *SECRET\n", "an alias (*name) has no anchor (&name) above it", null],
  ["a tag without meaning", "a.yaml", "a: !SECRET b\n", "this tag (!name) has no meaning here", "line 1, column 4"],
  ["YAML in a JSON file", "a.json", "a: SECRET\n", "this is not valid JSON", null],
] as const) {
  test(`says where it cannot go on: ${what}`, () => {
    expect(problemsOf(name, text)).toEqual([{ message, where }]);
  });
}

for (const text of [
  'a: "SECRET',
  "a: [SECRET",
  "a: {SECRET",
  "a: SECRET\n b: SECRET",
  "SECRET: a: SECRET",
  "a: @SECRET",
  "%SECRET",
]) {
  test(`quotes nothing of a file it cannot read: ${JSON.stringify(text)}`, () => {
    const problems = problemsOf("a.yaml", text);
    expect(problems).not.toBeEmpty();
    expect(JSON.stringify(problems)).not.toContain("SECRET");
  });
}

test("a few lines of aliases cannot expand to gigabytes", () => {
  const levels = Array.from(
    { length: 12 },
    (_, level) => `a${level + 1}: &a${level + 1} [${`*a${level},`.repeat(10)}]`,
  );
  expect(problemsOf("a.yaml", ["a0: &a0 x", ...levels].join("\n"))).toEqual([
    { message: "the file uses aliases (*name) too often", where: null },
  ]);
});

test("says that a file does not exist, or is a folder", () => {
  expect(readConfigFile(join(folder, "no.yaml"))).toEqual({
    problems: [{ message: "the file does not exist", where: null }],
  });
  expect(readConfigFile(folder)).toEqual({ problems: [{ message: "the file is a folder", where: null }] });
});
