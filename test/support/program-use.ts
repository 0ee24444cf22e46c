import { dirname, join } from "node:path";

/** A file of tests or of their support: its path from the repository's root, and its text. */
export interface TestSource {
  readonly path: string;
  readonly text: string;
}

/** Texts of a file that starts a program itself. */
const STARTS: readonly (readonly [program: string, pattern: RegExp])[] = [
  ["chromium", /chromium\.launch/],
  ["ip", /(?:Sync|spawn)\("ip",/],
  ["nats-server", /(?:Sync|spawn)\("nats-server",/],
  ["nginx", /(?:Sync|spawn)\("nginx",/],
  ["openssl", /(?:Sync|spawn)\("openssl",/],
];
const IMPORT = /^import (type )?([^;]*?) from "(\.[^"]+)";/gm;
/** Names of modules that start a program, which do not start it themselves. */
const HARMLESS = new Set(["health", "callNode", "copied", "ready", "freePort", "dueOf", "factsOf", "idOf", "statesOf"]);

/** One sentence for each test file that can start a program by an import of its own and does not say `needs("it")`. */
export function findUndeclared(files: readonly TestSource[]): string[] {
  const texts = new Map(files.map(({ path, text }) => [path, text]));
  return files
    .filter(({ path }) => path.endsWith(".test.ts"))
    .flatMap(({ path, text }) => {
      const declared = [...text.matchAll(/needs\(([^)]*)\)/g)].map((match) => match[1] ?? "").join();
      return [...startedBy(path, texts, new Set())]
        .filter((program) => !declared.includes(`"${program}"`))
        .map((program) => `${path} starts ${program}: take its tests from needs("${program}")`);
    });
}

function startedBy(path: string, texts: ReadonlyMap<string, string>, seen: Set<string>): Set<string> {
  const text = texts.get(path);
  if (text === undefined || seen.has(path)) return new Set();
  seen.add(path);
  const started = new Set(STARTS.filter(([, pattern]) => pattern.test(text)).map(([program]) => program));
  for (const [, type, names = "", from = ""] of text.matchAll(IMPORT)) {
    if (type !== undefined || isHarmless(names)) continue;
    for (const program of startedBy(join(dirname(path), from), texts, seen)) started.add(program);
  }
  return started;
}

function isHarmless(names: string): boolean {
  const values = names.replace(/[{}]/g, "").split(",");
  return values.every((name) => name.trim() === "" || name.trim().startsWith("type ") || HARMLESS.has(name.trim()));
}
