import { afterAll, afterEach, beforeAll, beforeEach, describe, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { accessSync, appendFileSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

/** A program that tests start but npm does not bring: a name of scripts/programs.json. */
export type Program = "chromium" | "ip" | "nats-server" | "nginx" | "openssl" | InteropProgram;
type InteropProgram =
  | "gunicorn"
  | "python3-flask"
  | "python3-tornado"
  | "libmojolicious-perl"
  | "starman"
  | "uwsgi_python3";

interface TestFunctions {
  readonly test: typeof test;
  readonly describe: typeof describe;
  readonly beforeAll: typeof beforeAll;
  readonly beforeEach: typeof beforeEach;
  readonly afterEach: typeof afterEach;
  readonly afterAll: typeof afterAll;
  /** What these tests share and make at load. Not made, and undefined, where they are skipped. */
  readonly setup: <T>(make: () => T) => T;
}

const FILE = join(import.meta.dir, "..", "..", "scripts", "programs.json");
const PACKAGES = JSON.parse(readFileSync(FILE, "utf8")) as Record<string, Record<string, string>>;
/** A package that is a library has no program of its own; these commands succeed where it is there. */
const PROBES: Readonly<Record<string, readonly [string, ...string[]]>> = {
  // By its path: another Python may come first, and has no packages of Debian's.
  "python3-flask": ["/usr/bin/python3", "-c", "import flask"],
  "python3-tornado": ["/usr/bin/python3", "-c", "import tornado"],
  "libmojolicious-perl": ["perl", "-e", "use Mojo::UserAgent"],
};

/**
 * The functions of `bun:test` for tests that start these programs. Where one is missing, `test` skips and leaves a line for
 * the account at the end of `npm test`, and hooks do nothing.
 *
 * Errors: throws "nginx is not installed" where HUBWIRE_TEST_REQUIRE is `all`.
 */
export function needs(...programs: readonly Program[]): TestFunctions {
  const missing = programs.find((program) => !isInstalled(program));
  if (missing === undefined)
    return { test, describe, beforeAll, beforeEach, afterEach, afterAll, setup: (make) => make() };
  if (process.env["HUBWIRE_TEST_REQUIRE"] === "all") throw new Error(absence(missing));
  const nothing = () => undefined;
  return {
    test: skipping(missing),
    describe,
    beforeAll: nothing,
    beforeEach: nothing,
    afterEach: nothing,
    afterAll: nothing,
    setup: <T>() => undefined as T,
  };
}

/** Throws at once, with the package's name, where a program is missing. For the modules that start it. */
export function requireProgram(program: Program): void {
  if (!isInstalled(program)) throw new Error(absence(program));
}

/** Whether a program is there. HUBWIRE_TEST_WITHOUT names programs, with commas, that count as missing. */
export function isInstalled(program: Program): boolean {
  if (process.env["HUBWIRE_TEST_WITHOUT"]?.split(",").includes(program)) return false;
  const probe = PROBES[program];
  if (probe !== undefined) return spawnSync(probe[0], probe.slice(1)).status === 0;
  const folders = [process.env["PATH"], "/usr/sbin", "/sbin"].filter(Boolean).join(delimiter).split(delimiter);
  return folders.some((folder) => isExecutable(join(folder, program)));
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function absence(program: Program): string {
  const name = PACKAGES["test"]?.[program] ?? PACKAGES["interop"]?.[program] ?? program;
  return `${program} is not installed (Debian package: ${name})`;
}

/** As Bun's `test`, but each one is skipped and noted. */
function skipping(program: Program): typeof test {
  const note = (count: number) => {
    const file = process.env["HUBWIRE_TEST_SKIPS"];
    if (file !== undefined) appendFileSync(file, `${program}\n`.repeat(count));
  };
  const skip = (name: string, run: () => void) => {
    note(1);
    test.skip(name, run);
  };
  const each = (rows: readonly unknown[]) => (name: string, run: () => void) => {
    note(rows.length);
    test.skip.each([...rows])(name, run);
  };
  return Object.assign(skip, { each, skip: test.skip, skipIf: () => skip }) as unknown as typeof test;
}
