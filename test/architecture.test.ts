import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { costFaults, findFaults, listImports, type SourceFile } from "./support/architecture.ts";
import { findUndeclared } from "./support/program-use.ts";
import { listRegExps, superLinearFault } from "./support/regexp-cost.ts";
import { findRepeatedLines } from "./support/repeated-lines.ts";

const ROOT = join(import.meta.dir, "..");
const SOURCE = join(ROOT, "src");

function readSources(folder = SOURCE): SourceFile[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => ({ path: path.replaceAll("\\", "/"), text: readFileSync(join(folder, path), "utf8") }));
}

test("src keeps the import rule and the house rules", () => {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { dependencies: object };
  const sources = readSources();
  expect(sources.map(({ path }) => path)).toContain("core/ports/upstream.ts");
  expect(findFaults(sources, Object.keys(dependencies))).toEqual([]);
});

test("no six lines of src are written twice", () => {
  const sources = readSources().sort((a, b) => (a.path < b.path ? -1 : 1));
  expect(findRepeatedLines(sources)).toEqual([]);
});

describe("the check of repeated lines", () => {
  const body = (names: readonly string[]) => names.map((name) => `  ${name}();`).join("\n");
  const twice = (first: string, second: string) =>
    findRepeatedLines([
      { path: "core/a.ts", text: first },
      { path: "core/b.ts", text: second },
    ]);
  const SIX = ["a", "b", "c", "d", "e", "f"];

  test("finds six lines in two files, across empty lines, indentation and brackets", () => {
    const other = `import {\n  x,\n} from "./x.ts";\n${body(SIX).replace("  c();", "\n    }\n      c();")}`;
    expect(twice(body(SIX), other)).toEqual(["core/b.ts:4: repeats 6 lines of core/a.ts:1"]);
  });

  test("finds six lines that one file has twice", () => {
    expect(findRepeatedLines([{ path: "a.ts", text: `${body(SIX)}\n  g();\n${body(SIX)}` }])).toEqual([
      "a.ts:8: repeats 6 lines of a.ts:1",
    ]);
  });

  test("takes five lines, the same imports, and tests", () => {
    expect(twice(body(SIX.slice(1)), body(SIX.slice(1)))).toEqual([]);
    const imports = SIX.map((name) => `import { ${name} } from "./${name}.ts";`).join("\n");
    expect(twice(imports, imports)).toEqual([]);
    const text = body(SIX);
    expect(
      findRepeatedLines([
        { path: "a.ts", text },
        { path: "a.test.ts", text },
      ]),
    ).toEqual([]);
  });
});

test("tests that start a program skip where it is missing", () => {
  const sources = ["src", "test"].flatMap((folder) =>
    readSources(join(ROOT, folder)).map(({ path, text }) => ({ path: `${folder}/${path}`, text })),
  );
  expect(findUndeclared(sources)).toEqual([]);
});

test("a test file that starts a program through another file must say so", () => {
  const start = { path: "test/support/a.ts", text: 'const child = spawn("nginx", []);\n' };
  const direct = { path: "test/b.test.ts", text: 'import { a } from "./support/a.ts";\n' };
  const typeOnly = { path: "test/c.test.ts", text: 'import type { A } from "./support/a.ts";\n' };
  const declared = { path: "test/d.test.ts", text: `${direct.text}const { test } = needs("nginx");\n` };
  expect(findUndeclared([start, direct, typeOnly, declared])).toEqual([
    'test/b.test.ts starts nginx: take its tests from needs("nginx")',
  ]);
});

test("examples read what they get in linear time", () => {
  const sources = readSources(join(ROOT, "examples"));
  expect(sources.map(({ path }) => path)).toContain("chat/server.ts");
  expect(sources.flatMap(costFaults)).toEqual([]);
});

describe("the check of regular expressions", () => {
  const RUN = "searches a run again from each of its characters";
  const SHARED = "has two repeats that can share one run";
  const NESTED = "repeats a repeat";
  const refused: readonly (readonly [RegExp, string])[] = [
    [/^[ \t]+|[ \t]+$/g, RUN],
    [/[\t\r\n]|[\u0000-\u0020]+$/g, RUN],
    [/[,%]|:(?= )|^ +| +$/gu, RUN],
    [/\/+$/, RUN],
    [/\s+=/, RUN],
    [/^\s+$/m, RUN],
    [/\?.*$/, RUN],
    [/"(?:[^"\\]|\\.)*"/g, RUN],
    [/(?=.*x)a/, RUN],
    [/a{10,}$/, RUN],
    [/^\s*a?\s*$/, SHARED],
    [/^.*:.*$/, SHARED],
    [/^\d+(?:\.?\d+)?x/, SHARED],
    [/^(?:a+)+$/, NESTED],
    [/^(?:a*)*$/, NESTED],
    [/^(?:(?:a+){2})*$/, NESTED],
    [/^(?:a{1,30}){1,30}$/, NESTED],
    [/^(?:a|a)*$/, "repeats a choice whose alternatives begin alike"],
  ];
  test.each(refused)("refuses %p", (expression, fault) => {
    expect(superLinearFault(expression.source, expression.flags)).toBe(fault);
  });

  const taken: readonly RegExp[] = [
    /^[ \t]+$/,
    /^ +$/m,
    /[^,\s]+/g,
    /https?:\/\/\S+/,
    /\?.*$/s,
    /\{[^{}]*\}/g,
    /(?:^|;|\s)timeout\s*=\s*"?(\d{1,9})/,
    /^bearer +(\S+)$/i,
    /^([0-9A-F]+)[ \t]*(?:;[^\n]*)?$/,
    /^-?\d+(?:\.\d+)?$/,
    /^(?:,[^,]*)*$/,
    /^[^:]*:[^:]*$/,
    /("(?:[^"\\]|\\.)*"|[^"\s]+)|\s+/gy,
    /^127(?:\.\d+){3}$/,
    /^[A-Za-z][\w.]{0,127}$/,
  ];
  test.each(taken.map((expression) => [expression]))("takes %p", (expression) => {
    expect(superLinearFault(expression.source, expression.flags)).toBeNull();
  });

  test("sees every literal of a line, and none in a comment or a path", () => {
    const text = [
      'const A = /a\\/b[/"]+/g;',
      "  x.replace(/^c/, y).split(/d/i);",
      "  // x.replace(/no/)",
      " * source.match(/no/)",
      'import "./a/b/c.ts";',
      "  return /e/.test(b) ? a / b / c : 1;",
    ].join("\n");
    const found = listRegExps(text).map(({ line, source, flags }) => `${line} ${source} ${flags}`);
    expect(found).toEqual(['1 a\\/b[/"]+ g', "2 ^c ", "2 d i", "6 e "]);
  });
});

describe("the checker itself", () => {
  const lines = (count: number, line: string) => `${line}\n`.repeat(count);
  const faultsOf = (path: string, text: string) => findFaults([{ path, text }], ["zod", "@scope/name"]);

  test("reads every form of import, and none in a comment", () => {
    const text = [
      'import type { A } from "./a.ts";',
      "import {",
      "  b,",
      '} from "./b.ts";',
      'export { c } from "./c.ts";',
      'export * from "./d.ts";',
      'import "./e.ts";',
      '  const f = await import("./f.ts");',
      ' * import { no } from "./no.ts";',
      'const text = "import";',
    ].join("\n");
    expect(listImports(text)).toEqual(["./a.ts", "./b.ts", "./c.ts", "./d.ts", "./e.ts", "./f.ts"]);
  });

  const refused: readonly (readonly [string, string, string, string])[] = [
    [
      "protocol uses core",
      "protocol/x.ts",
      'import type { A } from "../core/ports/clock.ts";',
      "protocol may import itself only",
    ],
    ["protocol uses node", "protocol/x.ts", 'import { a } from "node:fs";', "imports no package"],
    [
      "core uses an adapter",
      "core/x.ts",
      'import { a } from "../sockets/a.ts";',
      "core may import itself, protocol only",
    ],
    ["core uses config", "core/x.ts", 'import type { Config } from "../config/schema.ts";', "core may import"],
    ["core uses a package", "core/x.ts", 'import { z } from "zod";', "imports no package"],
    ["core uses node", "core/x.ts", 'import { a } from "node:timers";', "imports no package"],
    ["core uses bun", "core/x.ts", 'import { a } from "bun";', "imports no package"],
    ["core uses an adapter late", "core/x.ts", 'const a = await import("../api/a.ts");', "core may import"],
    [
      "a dialect uses core",
      "dialects/asrs/x.ts",
      'import { a } from "../../core/a.ts";',
      "dialects may import itself, protocol only",
    ],
    [
      "a client protocol uses core",
      "client-protocols/x.ts",
      'import { a } from "../core/a.ts";',
      "client-protocols may import itself, protocol only",
    ],
    [
      "core uses a client protocol",
      "core/x.ts",
      'import { a } from "../client-protocols/raw.ts";',
      "core may import itself, protocol only",
    ],
    [
      "an adapter uses a client protocol",
      "sockets/x.ts",
      'import { a } from "../client-protocols/raw.ts";',
      "sockets may import",
    ],
    [
      "an adapter uses a dialect",
      "upstream/x.ts",
      'import { a } from "../dialects/dialects.ts";',
      "upstream may import",
    ],
    ["config uses core", "config/x.ts", 'import { a } from "../core/a.ts";', "config may import itself, protocol only"],
    ["auth uses config", "auth/x.ts", 'import { a } from "../config/a.ts";', "auth may import itself, protocol only"],
    ["one adapter uses another", "sockets/x.ts", 'import { a } from "../upstream/a.ts";', "sockets may import"],
    ["its test does so", "sockets/x.test.ts", 'import { a } from "../upstream/a.ts";', "sockets may import"],
    ["an adapter uses the gateway", "api/x.ts", 'import { a } from "../gateway/gateway.ts";', "api may import"],
    ["the gateway uses main", "gateway/x.ts", 'import { a } from "../main.ts";', "nothing imports main.ts"],
    ["the gateway uses a command", "gateway/x.ts", 'import { a } from "../command/a.ts";', "gateway may import"],
    ["a command uses the gateway", "command/x.ts", 'import { a } from "../gateway/gateway.ts";', "command may import"],
    ["a command uses an adapter", "command/x.ts", 'import { a } from "../api/a.ts";', "command may import"],
    ["a file of src itself", "clock.ts", "", "no rule says"],
    ["a folder without a rule", "stuff/x.ts", "", "no rule says"],
    ["src uses tests", "sockets/x.ts", 'import { a } from "../../test/support/a.ts";', "which is not in src"],
    ["a package for development", "api/x.ts", 'import { a } from "fast-check";', "no dependency of the product"],
    [
      "another package of a scope",
      "api/x.ts",
      'import { a } from "@scope/other/a.js";',
      "no dependency of the product",
    ],
    ["an import without ending", "api/x.ts", 'import { a } from "./a";', "without the ending"],
    ["a barrel", "api/index.ts", "", "is a barrel"],
    ["a barrel by another name", "api/all.ts", 'export * from "./a.ts";', "is a barrel"],
    ["a module's let", "core/x.ts", "let count = 0;", "`count` is module-level state"],
    ["a module's map", "core/x.ts", "const seen = new Map<string, number>();", "`seen` is module-level state"],
    [
      "a module's typed map",
      "core/x.ts",
      "export const seen: Map<string, number> = new Map();",
      "`seen` is module-level",
    ],
    ["a module's list", "core/x.ts", "const queue: string[] = [];", "`queue` is module-level state"],
    ["a search in front of an end", "api/x.ts", "const a = b.replace(/ +$/, c);", "api/x.ts:1: / +$/ searches a run"],
    ["an expression made of a text", "api/x.ts", "const a = new RegExp(b);", "which nothing here can judge"],
    ["a list copied to grow", "api/x.ts", "  this.#all = [...this.#all, one];", "copies `this.#all` to add to it"],
    ["bytes copied to grow", "api/x.ts", "  held = Buffer.concat([held, more]);", "copies `held` to add to it"],
    ["a vague name", "api/utils.ts", "", "says nothing"],
    ["a vague ending", "api/http-helpers.ts", "", "says nothing"],
    ["camel case", "api/routeTable.ts", "", "kebab-case"],
    ["a mode that is changed", "rules/x.ts", "chmodSync(dataDir, 0o700);", "calls `chmod`"],
    ["a folder that is made", "rules/x.ts", "mkdirSync(dataDir);", "calls `mkdir`"],
    ["Bun with other flags", "command/x.ts", 'Bun.spawn([process.execPath, "a.ts"]);', "without `...process.execArgv`"],
    ["a hub as it came", "upstream/x.ts", "  const target = fill(event.facts.hub);", "without spellHub"],
    ["a hub in a header", "dialects/asrs/headers.ts", '  lines.push(["X-ASRS-Hub", facts.hub]);', "without spellHub"],
    ["a hub taken out of the facts", "upstream/x.ts", "  const { name, hub } = event.facts;", "without spellHub"],
    ["the core names a dialect", "core/x.ts", 'const name = "X-ASRS-Hub";', "names the dialect asrs"],
    ["an entry by its earlier name", "upstream/x.ts", "export class Backend {", "is an Entry"],
    ["another verdict", "upstream/x.ts", "export type Verdict = string;", "only a node's reply"],
    ["a node that answers", "broker/x.ts", "type Answer = string;", "replies with a Verdict"],
    ["a lane of something else", "upstream/x.ts", "export class SendLane {", "the owed disconnects of one entry"],
    ["the replica by its earlier name", "journal/x.ts", "export interface NodeLogs {", "in NATS is the replica"],
    ["a line to the console", "api/x.ts", '  console.error("no");', "writes by `console.error`"],
    ["output of its own", "upstream/x.ts", "  process.stdout.write(text);", "writes by `process.stdout`"],
    ["401 lines", "api/x.ts", lines(401, "//"), "has 401 lines"],
    ["a function of 51 lines", "api/x.ts", `function f(): void {\n${lines(49, "  a();")}}\n`, "`f` has 51 lines"],
    ["a split head", "api/x.ts", `function f(\n  a: A,\n): void {\n${lines(47, "  a();")}}\n`, "`f` has 51 lines"],
    ["an arrow", "api/x.ts", `const f = (): void => {\n${lines(49, "  a();")}};\n`, "`f` has 51 lines"],
    ["a method", "api/x.ts", `class A {\n  async f(a: A) {\n${lines(49, "    a();")}  }\n}\n`, "`f` has 51 lines"],
    [
      "a private method",
      "api/x.ts",
      `class A {\n  #f<T>(a: T) {\n${lines(49, "    a();")}  }\n}\n`,
      "`#f` has 51 lines",
    ],
  ];
  for (const [what, path, text, sentence] of refused) {
    test(`refuses: ${what}`, () => {
      const faults = faultsOf(path, text);
      expect(faults).toHaveLength(1);
      expect(faults[0]).toContain(sentence);
    });
  }

  const allowed: readonly (readonly [string, string, string])[] = [
    [
      "core uses protocol and itself",
      "core/x.ts",
      'import { a } from "../protocol/a.ts";\nimport { b } from "./b.ts";',
    ],
    [
      "an adapter uses core, config, auth",
      "api/x.ts",
      'import "../core/a.ts";\nimport "../config/a.ts";\nimport "../auth/a.ts";',
    ],
    [
      "packages in adapters",
      "api/x.ts",
      'import "zod";\nimport "@scope/name/a.js";\nimport "node:fs";\nimport "bun:sqlite";',
    ],
    [
      "a test of core uses a test runner",
      "core/x.test.ts",
      'import { test } from "bun:test";\nimport "../../test/support/a.ts";',
    ],
    ["the gateway uses adapters", "gateway/x.ts", 'import { a } from "./y.ts";\nimport "../api/a.ts";'],
    [
      "main uses the gateway and commands",
      "main.ts",
      'import { a } from "./gateway/gateway.ts";\nimport "./command/args.ts";\nimport "../package.json";',
    ],
    ["a set that cannot change", "core/x.ts", 'const NAMES: ReadonlySet<string> = new Set(["a"]);'],
    ["a let inside a function", "core/x.ts", "function f() {\n  let a = 0;\n  return a;\n}"],
    ["Bun with its own flags", "command/x.ts", 'Bun.spawn([process.execPath, ...process.execArgv, "a.ts"]);'],
    ["a hub that is spelled", "upstream/x.ts", "  const hub = this.#spellHub(event.facts.hub);"],
    ["a hub that finds an entry", "upstream/x.ts", "  const backend = entries.find(event.facts.hub, event.name);"],
    ["400 lines", "api/x.ts", lines(400, "//")],
    ["a function of 50 lines", "api/x.ts", `function f(): void {\n${lines(48, "  a();")}}\n`],
    ["a long class of short methods", "api/x.ts", `class A {\n${lines(30, "  f(): void {\n  }")}}\n`],
  ];
  for (const [what, path, text] of allowed) {
    test(`allows: ${what}`, () => expect(faultsOf(path, text)).toEqual([]));
  }

  test("finds a cycle over three files, types included", () => {
    const file = (path: string, target: string) => ({ path, text: `import type { A } from "${target}";` });
    const files = [file("core/a.ts", "./b.ts"), file("core/b.ts", "./c.ts"), file("core/c.ts", "./a.ts")];
    expect(findFaults(files, [])).toEqual(["import cycle: core/a.ts → core/b.ts → core/c.ts → core/a.ts"]);
  });

  test("finds no cycle where two files import a third", () => {
    const file = (path: string, text: string) => ({ path, text });
    const files = [
      file("core/a.ts", 'import "./b.ts";\nimport "./c.ts";'),
      file("core/b.ts", 'import "./c.ts";'),
      file("core/c.ts", ""),
    ];
    expect(findFaults(files, [])).toEqual([]);
  });
});
