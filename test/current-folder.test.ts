import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { COMMANDS_TIMEOUT_MS, findFreePort, REPOSITORY, type RunningCommand, startCommand } from "./support/command.ts";
import { within } from "./support/deadline.ts";
import { KEYS } from "./support/gateway.ts";
import { NatsServer } from "./support/nats-server.ts";
import { needs } from "./support/programs.ts";

const nats = needs("nats-server");

/** hubwire, started in a folder that somebody else has filled: its files must neither run nor stop hubwire. */
setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const LAUNCHER = `node ${join(REPOSITORY, "bin", "hubwire.mjs")}`;
const MAIN = join(REPOSITORY, "src", "main.ts");

/** Leaves a file where it runs, however it is loaded. */
const EVIL = `require("node:fs").appendFileSync(process.env.TRAP_MARKER, "ran\\n");\n`;
/** A variable that hubwire refuses, and one that a test can see the effect of. */
const DOTENV = "HUBWIRE_NO_SUCH_OPTION=1\nHUBWIRE_LISTEN_PORT=nonsense\n";
const PATHS = { compilerOptions: { baseUrl: ".", paths: { "*": ["./evil.cjs"] } } };
const PATHS_OF_PACKAGES = {
  compilerOptions: { paths: Object.fromEntries(["zod", "yaml", "pino"].map((name) => [name, ["./evil.cjs"]])) },
};
const PACKAGE = {
  name: "hubwire",
  type: "commonjs",
  main: "./evil.cjs",
  exports: "./evil.cjs",
  browser: { [MAIN]: "./evil.cjs" },
  imports: { "#*": "./evil.cjs", [MAIN]: "./evil.cjs" },
  scripts: { [MAIN]: "node evil.cjs", start: "node evil.cjs" },
  workspaces: ["*"],
  preload: ["./evil.cjs"],
  bun: { preload: ["./evil.cjs"] },
};

/** Files by their path in the folder that hubwire is started in. */
type Files = Readonly<Record<string, string>>;

const PRELOAD = 'preload = ["./evil.cjs"]\n[test]\npreload = ["./evil.cjs"]\n';
const DEPENDENCIES = Object.fromEntries(
  [...Object.keys(packageJson.dependencies), "hubwire"].flatMap((name) => [
    [`node_modules/${name}/package.json`, JSON.stringify({ name, main: "evil.cjs" })],
    [`node_modules/${name}/evil.cjs`, EVIL],
  ]),
);

const TRAPS: readonly (readonly [string, Files])[] = [
  ["bunfig.toml with a preload", { "bunfig.toml": PRELOAD }],
  ["bunfig.toml that is broken", { "bunfig.toml": "preload = [" }],
  [".bunfig.toml of the home folder", { "home/.bunfig.toml": PRELOAD, "home/.config/.bunfig.toml": PRELOAD }],
  ["tsconfig.json with paths for every module", { "tsconfig.json": JSON.stringify(PATHS) }],
  ["tsconfig.json with paths for packages", { "tsconfig.json": JSON.stringify(PATHS_OF_PACKAGES) }],
  ["tsconfig.json that is broken", { "tsconfig.json": "{ broken" }],
  ["jsconfig.json with paths", { "jsconfig.json": JSON.stringify(PATHS) }],
  ["package.json with everything that names a file", { "package.json": JSON.stringify(PACKAGE) }],
  ["package.json that is broken", { "package.json": "{ broken" }],
  ["packages of the same names", DEPENDENCIES],
  [
    ".env of every kind",
    Object.fromEntries(
      ["", ".local", ".production", ".production.local", ".development", ".development.local", ".test"].map((end) => [
        `.env${end}`,
        DOTENV,
      ]),
    ),
  ],
  [".npmrc", { ".npmrc": "script-shell=./evil.cjs\nnode-options=--require=./evil.cjs\n" }],
];

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-current-folder-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A new folder with these files, and the module that they name. */
class Trap {
  readonly path = mkdtempSync(join(folder, "trap-"));
  readonly marker = join(this.path, "..", `${this.path.split("/").at(-1)}.ran`);

  constructor(files: Files) {
    for (const [name, text] of Object.entries({ "evil.cjs": EVIL, ...files })) {
      mkdirSync(dirname(join(this.path, name)), { recursive: true });
      writeFileSync(join(this.path, name), text);
    }
  }

  run(words: string, env: Readonly<Record<string, string>> = {}): RunningCommand {
    const home = join(this.path, "home");
    const own = { HOME: home, XDG_CONFIG_HOME: join(home, ".config"), XDG_DATA_HOME: join(home, "share") };
    return startCommand(`exec ${LAUNCHER} ${words}`, {
      cwd: this.path,
      env: { ...own, NODE_ENV: "production", TRAP_MARKER: this.marker, ...env },
    });
  }

  /** What the trap has done: nothing, where it was not sprung. */
  get hasRun(): boolean {
    return existsSync(this.marker);
  }
}

function writeConfig(config: Readonly<Record<string, unknown>>): string {
  const file = join(mkdtempSync(join(folder, "config-")), "hubwire.json");
  const defaults = { accessKeys: KEYS, dataDir: join(dirname(file), "data"), publicUrls: ["http://127.0.0.1"] };
  writeFileSync(file, JSON.stringify({ ...defaults, upstreams: [{ urlTemplate: "http://127.0.0.1:9/" }], ...config }));
  return file;
}

test("the trap springs where it is meant to, so that these tests can fail", async () => {
  const bun = join(REPOSITORY, "node_modules", "bun", "bin", "bun.exe");
  for (const files of [{ "bunfig.toml": PRELOAD }, { "tsconfig.json": JSON.stringify(PATHS) }]) {
    const trap = new Trap(files);
    const child = Bun.spawn([bun, MAIN, "version"], {
      cwd: trap.path,
      env: { ...process.env, TRAP_MARKER: trap.marker },
      stdio: ["ignore", "ignore", "ignore"],
    });
    await child.exited;
    expect(trap.hasRun).toBe(true);
  }
});

test.each(TRAPS)("%s is not used by version", async (_, files) => {
  const trap = new Trap(files);
  await using command = trap.run("version");
  expect(await command.ended).toBe(0);
  expect(command.stdout()).toMatch(/^hubwire \d+\.\d+\.\d+ \(Bun [\d.]+\)\n$/);
  expect(trap.hasRun).toBe(false);
});

/** All traps in one folder: those that are sound, and those that are broken. */
const ALL: readonly (readonly [string, Files])[] = ["sound", "broken"].map((kind) => {
  const chosen = TRAPS.filter(([what]) => what.endsWith("broken") === (kind === "broken"));
  return [kind, Object.assign({}, ...chosen.map(([, files]) => files))];
});

describe.each(ALL)("all that are %s", (_, files) => {
  test("are not used by check", async () => {
    const trap = new Trap(files);
    const file = writeConfig({});
    await using command = trap.run(`check --config ${file}`);
    expect(await command.ended).toBe(0);
    expect(command.stdout()).toEndWith(`${file} is good.\n`);
    expect(trap.hasRun).toBe(false);
  });

  test("are not used by start, its threads, and the example", async () => {
    const trap = new Trap(files);
    await using command = trap.run("start --example chat", {
      HUBWIRE_LISTEN_PORT: "0",
      EXAMPLE_PORT: String(await findFreePort()),
    });
    await command.printed(/^Open http:\S+ in two browser tabs\.$/m);
    command.child.kill("SIGTERM");
    expect(await within(command.ended, "the gateway's end")).toBe(0);
    expect(trap.hasRun).toBe(false);
  });

  nats.test("are not used by the processes of --processes", async () => {
    await using nats = await NatsServer.start();
    const trap = new Trap(files);
    const file = writeConfig({ listen: { port: await findFreePort() }, cluster: { nats: { servers: [nats.url] } } });
    await using command = trap.run(`start --config ${file} --processes 2`);
    await command.printed(/^hubwire listens on \S+ with 2 processes$/m);
    command.child.kill("SIGTERM");
    expect(await within(command.ended, "the end of all processes")).toBe(0);
    expect(trap.hasRun).toBe(false);
  });
});

/** As `npm install` lays it out: the folder's own tsconfig.json is above the package too, and above the packages that it needs. */
test.each([
  ["tsconfig.json with paths for packages", { "tsconfig.json": JSON.stringify(PATHS_OF_PACKAGES) }],
  ["tsconfig.json with paths for every module", { "tsconfig.json": JSON.stringify(PATHS) }],
])("%s is not used by a hubwire that is installed below it", async (_, files) => {
  const trap = new Trap(files);
  const modules = join(trap.path, "node_modules");
  mkdirSync(modules);
  for (const name of readdirSync(join(REPOSITORY, "node_modules"))) {
    symlinkSync(join(REPOSITORY, "node_modules", name), join(modules, name));
  }
  for (const name of ["bin", "src", "package.json"]) {
    cpSync(join(REPOSITORY, name), join(modules, "hubwire", name), { recursive: true });
  }
  for (const cwd of [trap.path, folder]) {
    await using command = startCommand(`exec node ${join(modules, "hubwire", "bin", "hubwire.mjs")} check`, {
      cwd,
      env: { TRAP_MARKER: trap.marker },
    });
    expect(await command.ended).toBe(0);
    expect(command.stdout()).toEndWith("The configuration is good.\n");
    expect(trap.hasRun).toBe(false);
  }
});

describe("the folder's own files stay as they are", () => {
  test.each([
    ["HOME is empty", { HOME: "" }],
    ["HOME is a relative path", { HOME: "home" }],
    ["XDG_CACHE_HOME is a relative path", { XDG_CACHE_HOME: "cache" }],
    ["XDG_CACHE_HOME is empty", { XDG_CACHE_HOME: "", HOME: "" }],
  ])("where %s: Bun keeps no compiled sources there", async (_, env) => {
    const trap = new Trap({});
    await using command = trap.run("version", env);
    expect(await command.ended).toBe(0);
    expect(readdirSync(trap.path)).toEqual(["evil.cjs"]);
  });
});
