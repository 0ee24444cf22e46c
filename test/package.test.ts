import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { COMMANDS_TIMEOUT_MS, findFreePort, REPOSITORY, startCommand } from "./support/command.ts";
import { within } from "./support/deadline.ts";

/** What `npm pack` puts into the package, and that running hubwire puts nothing there. */
setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const ROOT_FILES = [
  "ARCHITECTURE.md",
  "CHANGELOG.md",
  "LICENSE",
  "PROTOCOL.md",
  "README.md",
  "SECURITY.md",
  "package.json",
];
const BIN = ["bun-settings.mjs", "empty-bunfig.toml", "empty-tsconfig.json", "hubwire.mjs"];
const CHAT = ["README.md", "chat.css", "chat.js", "hubwire.yaml", "index.html", "server.ts"];

/** Files that an earlier version, or a run in a folder of the package, has left. */
const LEFT_BEHIND = [
  "examples/chat/data/access-key",
  "examples/chat/data/journal.sqlite",
  "examples/chat/access-key",
  "examples/chat/.env",
  "src/data/access-key",
  "src/journal/journal.sqlite",
  "docs/data/access-key",
  "bin/access-key",
  "data/access-key",
  ".env",
];

const FLASK = ["README.md", "app.py", "hubwire.yaml", "static/site.js", "templates/site.html"];

let folder: string;
let copy: string;
let home: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-package-"));
  home = join(folder, "home");
  mkdirSync(home);
  copy = join(folder, "copy");
  for (const name of ["bin", "src", "docs", "examples", ...ROOT_FILES]) {
    const isData = (path: string) => path.startsWith(join(REPOSITORY, "examples", "chat", "data"));
    cpSync(join(REPOSITORY, name), join(copy, name), { recursive: true, filter: (path) => !isData(path) });
  }
  symlinkSync(join(REPOSITORY, "node_modules"), join(copy, "node_modules"));
  for (const name of LEFT_BEHIND) {
    mkdirSync(dirname(join(copy, name)), { recursive: true });
    writeFileSync(join(copy, name), "left behind");
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function filesBelow(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(path, name)).isFile())
    .toSorted();
}

/** All but packages: path, size and time of the last change. */
function snapshot(path: string): string[] {
  return filesBelow(path)
    .filter((name) => !name.startsWith("node_modules"))
    .map((name) => `${name} ${statSync(join(path, name)).size} ${statSync(join(path, name)).mtimeMs}`);
}

async function exampleRuns(packageFolder: string, words: string): Promise<void> {
  await using command = startCommand(`exec node ${join(packageFolder, "bin", "hubwire.mjs")} start ${words}`, {
    cwd: packageFolder,
    env: { HOME: home, XDG_DATA_HOME: "", HUBWIRE_LISTEN_PORT: "0", EXAMPLE_PORT: String(await findFreePort()) },
  });
  await command.printed(/^connection string: /m);
  command.child.kill("SIGTERM");
  expect(await within(command.ended, "the example's end")).toBe(0);
}

/** By rule: the sources without tests and what serves tests, documents, and the files that are named above. */
function expectedFiles(): string[] {
  const isShipped = (name: string) => name.endsWith(".ts") && !name.endsWith(".test.ts");
  const sources = filesBelow(join(REPOSITORY, "src")).filter(isShipped);
  const documents = filesBelow(join(REPOSITORY, "docs")).filter((name) => name.endsWith(".md"));
  return [
    ...ROOT_FILES,
    ...BIN.map((name) => `bin/${name}`),
    ...CHAT.map((name) => `examples/chat/${name}`),
    ...FLASK.map((name) => `examples/flask/${name}`),
    ...[...documents, "openapi.yaml"].map((name) => `docs/${name}`),
    ...sources.map((name) => `src/${name}`),
  ].toSorted();
}

function packedFiles(): string[] {
  const args = ["pack", "--dry-run", "--json", "--offline", "--cache", join(folder, "npm-cache")];
  const { stdout, stderr, status } = spawnSync("npm", args, { cwd: copy, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  const [packed] = JSON.parse(stdout) as [{ files: { path: string }[] }];
  return packed.files.map(({ path }) => path).toSorted();
}

test("the example keeps its data in the user's data folder, and writes nothing into the package's", async () => {
  const before = snapshot(copy);
  await exampleRuns(copy, "--example chat");
  await exampleRuns(copy, "--example chat --config examples/chat/hubwire.yaml");
  await exampleRuns(copy, "--config examples/chat/hubwire.yaml");
  expect(snapshot(copy)).toEqual(before);
  const dataDir = join(home, ".local", "share", "hubwire", "chat");
  expect(statSync(dataDir).mode & 0o777).toBe(0o700);
  expect(filesBelow(dataDir)).toContain("journal.sqlite");
  expect(readFileSync(join(dataDir, "access-key"), "utf8")).not.toContain("left behind");
});

test("npm pack holds what the rule says and nothing else, after a run of the example", async () => {
  await exampleRuns(copy, "--example chat");
  expect(packedFiles()).toEqual(expectedFiles());
});

test("the packed files are enough to run the example", async () => {
  const modules = join(folder, "app", "node_modules");
  for (const name of readdirSync(join(REPOSITORY, "node_modules"))) {
    mkdirSync(modules, { recursive: true });
    symlinkSync(join(REPOSITORY, "node_modules", name), join(modules, name));
  }
  for (const name of packedFiles()) cpSync(join(copy, name), join(modules, "hubwire", name));
  const before = snapshot(join(modules, "hubwire"));
  await exampleRuns(join(modules, "hubwire"), "--example chat");
  expect(snapshot(join(modules, "hubwire"))).toEqual(before);
});
