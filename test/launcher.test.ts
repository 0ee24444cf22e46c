import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { within } from "./support/deadline.ts";

setDefaultTimeout(60_000);

const LAUNCHER = join(import.meta.dir, "../bin/hubwire.mjs");
const WATCH = join(import.meta.dir, "../src/command/launcher-watch.ts");

/** Runs in the place of src/main.ts: says what it hears, and ends 200 ms after the first signal, as a drain would. */
const PEER = `
import { watchLauncher } from ${JSON.stringify(WATCH)};
const ended = { yes: false };
const heard = (what) => {
  console.log(what);
  if (ended.yes) return;
  ended.yes = true;
  setTimeout(() => { console.log("drained"); process.exit(7); }, 200);
};
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => heard(signal));
watchLauncher(() => heard("launcher gone"));
console.log("ready " + process.pid + " " + JSON.stringify(process.argv.slice(2)));
setInterval(() => {}, 1000);
`;

/** A started process and the lines that it and its children print. */
interface Started {
  readonly process: ChildProcess;
  readonly lines: string[];
  /** Resolves with the first line that starts with a text, also one printed before. */
  line(start: string): Promise<string>;
  /** Resolves when nobody holds the output open any more: the process and all its children have ended. */
  readonly allEnded: Promise<void>;
  readonly exitCode: Promise<number | null>;
}

const folders: string[] = [];
const started: Started[] = [];
const peers: number[] = [];

afterEach(() => {
  for (const { process: child, lines } of started.splice(0)) {
    child.kill("SIGKILL");
    const pid = peerPid(lines);
    if (pid !== null) killIfAlive(pid);
  }
  for (const pid of peers.splice(0)) killIfAlive(pid);
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function peerPid(lines: readonly string[]): number | null {
  const ready = lines.find((line) => line.startsWith("ready "));
  return ready === undefined ? null : Number(ready.split(" ")[1]);
}

function killIfAlive(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended already, as it should.
  }
}

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hubwire-launcher-"));
  folders.push(folder);
  return folder;
}

function makePeer(source: string): string {
  const path = join(makeFolder(), "peer.ts");
  writeFileSync(path, source);
  return path;
}

function start(command: string, args: readonly string[], peer: string, cwd = tmpdir()): Started {
  // Under `npm test` this process has npm's variables, and the launcher would take npm for its parent.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("npm_")));
  const child = spawn(command, args, {
    cwd,
    env: { ...env, HUBWIRE_TEST_MAIN: peer },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const lines: string[] = [];
  const waiting: { start: string; resolve: (line: string) => void }[] = [];
  const ended = [child.stdout, child.stderr].map((stream) => {
    const reader = createInterface({ input: stream });
    reader.on("line", (line) => {
      lines.push(line);
      for (const waiter of waiting) if (line.startsWith(waiter.start)) waiter.resolve(line);
    });
    return new Promise<void>((resolve) => reader.on("close", resolve));
  });
  const result: Started = {
    process: child,
    lines,
    line: (start) =>
      new Promise((resolve) => {
        const printed = lines.find((line) => line.startsWith(start));
        if (printed === undefined) waiting.push({ start, resolve });
        else resolve(printed);
      }),
    allEnded: Promise.all(ended).then(() => undefined),
    exitCode: new Promise((resolve) => child.on("exit", (code) => resolve(code))),
  };
  started.push(result);
  return result;
}

function startLauncher(args: readonly string[] = [], peer = makePeer(PEER)): Started {
  return start("node", [LAUNCHER, ...args], peer);
}

test("hands the arguments on as they are", async () => {
  const launcher = startLauncher(["start", "--config", "a b.yaml"]);
  expect(await launcher.line("ready")).toEndWith('["start","--config","a b.yaml"]');
});

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
  test(`passes ${signal} on, waits for the end and exits with its code`, async () => {
    const launcher = startLauncher();
    await launcher.line("ready");
    launcher.process.kill(signal);
    expect(await launcher.exitCode).toBe(7);
    await launcher.allEnded;
    expect(launcher.lines.slice(1)).toEqual([signal, "drained"]);
  });
}

test("exits with 128 + signal when the process dies by one", async () => {
  const launcher = startLauncher([], makePeer(`process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1000);`));
  expect(await launcher.exitCode).toBe(137);
});

test("exits with 0 when the process does", async () => {
  expect(await startLauncher([], makePeer("process.exit(0);")).exitCode).toBe(0);
});

test("passes a Ctrl-C on once, though the terminal and npm both send it", async () => {
  const launcher = startLauncher();
  await launcher.line("ready");
  const group = -(launcher.process.pid ?? 0);
  process.kill(group, "SIGINT");
  launcher.process.kill("SIGINT");
  await launcher.line("SIGINT");
  launcher.process.kill("SIGINT");
  await launcher.allEnded;
  expect(launcher.lines.slice(1)).toEqual(["SIGINT", "drained"]);
});

test("a second Ctrl-C, a second or more after the first, is passed on too", async () => {
  const peer = makePeer(`
let count = 0;
process.on("SIGINT", () => { console.log("SIGINT " + ++count); if (count === 2) process.exit(130); });
console.log("ready " + process.pid);
setInterval(() => {}, 1000);
`);
  const launcher = startLauncher([], peer);
  await launcher.line("ready");
  launcher.process.kill("SIGINT");
  await launcher.line("SIGINT 1");
  // The second is whichever comes after the launcher's second; those before it are taken for the first.
  const again = setInterval(() => launcher.process.kill("SIGINT"), 50);
  await launcher.line("SIGINT 2");
  clearInterval(again);
  expect(await launcher.exitCode).toBe(130);
});

/** A launcher at a terminal of its own. */
interface AtTerminal {
  readonly launcherPid: number;
  close(): void;
  /** The first signal that the process hears; it ends by it. */
  heard(): Promise<string>;
}

/** Waits for a file's content, which tells no event of its own. */
async function written(path: string): Promise<string> {
  const looked = async () => {
    for (;;) {
      const text = existsSync(path) ? readFileSync(path, "utf8") : "";
      if (text !== "") return text;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  return await within(looked(), path);
}

async function startAtTerminal(line: string): Promise<AtTerminal> {
  const folder = makeFolder();
  const [ready, heard] = [join(folder, "ready"), join(folder, "heard")];
  const peer = makePeer(`
import { writeFileSync } from "node:fs";
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => {
  writeFileSync(${JSON.stringify(heard)}, signal);
  process.exit(0);
});
writeFileSync(${JSON.stringify(ready)}, process.pid + " " + process.ppid);
setInterval(() => {}, 1000);
`);
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("npm_")));
  const terminal = new Bun.Terminal({});
  // Bun makes no terminal the controlling one, and SIGHUP comes from that alone.
  Bun.spawn(["setsid", "--ctty", "sh", "-c", line], {
    cwd: folder,
    env: { ...env, HUBWIRE_TEST_MAIN: peer },
    terminal,
  });
  const [pid = 0, launcherPid = 0] = (await written(ready)).split(" ").map(Number);
  peers.push(pid);
  return { launcherPid, close: () => terminal.close(), heard: () => written(heard) };
}

describe.skipIf(Bun.which("setsid") === null)("at a terminal", () => {
  test("its end is the process's end, though SIGHUP alone asks for a reload", async () => {
    const started = await startAtTerminal(`exec node ${LAUNCHER}`);
    started.close();
    expect(await started.heard()).toBe("SIGTERM");
  });

  test("SIGHUP stays what it is while the terminal is there", async () => {
    const started = await startAtTerminal(`exec node ${LAUNCHER}`);
    process.kill(started.launcherPid, "SIGHUP");
    expect(await started.heard()).toBe("SIGHUP");
  });

  test("its end is no end for what nohup has started", async () => {
    const started = await startAtTerminal(`exec nohup node ${LAUNCHER} </dev/null >out 2>&1`);
    started.close();
    expect(await started.heard()).toBe("SIGHUP");
  });
});

test("the process ends when the launcher is killed", async () => {
  const launcher = startLauncher();
  await launcher.line("ready");
  launcher.process.kill("SIGKILL");
  await launcher.allEnded;
  expect(launcher.lines.slice(1)).toEqual(["launcher gone", "drained"]);
});

test("the process does not take the launcher's id for its own children", async () => {
  const source = `${PEER}\nconsole.log("variable " + process.env.HUBWIRE_LAUNCHER_PID);`;
  expect(await startLauncher([], makePeer(source)).line("variable")).toBe("variable undefined");
});

test("Bun has the launcher's settings, and the user's own before those", async () => {
  const name = "MIMALLOC_PURGE_HOLES_MIN_INTERVAL";
  const peer = makePeer(`${PEER}\nconsole.log("setting " + process.env.${name});`);
  expect(await startLauncher([], peer).line("setting")).toBe("setting 2000");
  expect(await start("env", [`${name}=7`, "node", LAUNCHER], peer).line("setting")).toBe("setting 7");
});

function startNpm(script: string): Started {
  const folder = makeFolder();
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "x", scripts: { start: script } }));
  return start("npm", ["start", "--silent"], makePeer(PEER), folder);
}

for (const script of [`exec node ${LAUNCHER}`, `node ${LAUNCHER}; exit $?`]) {
  test(`everything ends when npm is killed (${script.startsWith("exec") ? "no shell" : "a shell"} between)`, async () => {
    const npm = startNpm(script);
    await npm.line("ready");
    npm.process.kill("SIGKILL");
    await npm.allEnded;
    expect(npm.lines.slice(1)).toEqual(["SIGTERM", "drained"]);
  });
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`npm start waits for the end and exits with its code on ${signal}`, async () => {
    // Without exec npm's signal would end the shell between, and npm would not wait for what that shell has started.
    const npm = startNpm(`exec node ${LAUNCHER}`);
    await npm.line("ready");
    npm.process.kill(signal);
    expect(await npm.exitCode).toBe(7);
    await npm.allEnded;
    expect(npm.lines.slice(1)).toEqual([signal, "drained"]);
  });
}

test("goes on when a shell that started it in the background leaves", async () => {
  const shell = start("sh", ["-c", `node ${LAUNCHER} & read line`], makePeer(PEER));
  await shell.line("ready");
  await shell.exitCode;
  const pid = peerPid(shell.lines) ?? 0;
  // Two rounds of the watch: had it noticed anything, the process would have said so.
  await new Promise((resolve) => setTimeout(resolve, 1100));
  expect(shell.lines.slice(1)).toEqual([]);
  process.kill(pid, "SIGTERM");
  await shell.allEnded;
});

test("says what to run when Bun's install script has been skipped", async () => {
  const folder = makeFolder();
  mkdirSync(join(folder, "node_modules/bun/bin"), { recursive: true });
  cpSync(dirname(LAUNCHER), join(folder, "bin"), { recursive: true });
  writeFileSync(join(folder, "node_modules/bun/package.json"), '{"name":"bun"}');
  writeFileSync(join(folder, "node_modules/bun/bin/bun.exe"), 'echo "Error: the postinstall script was not run"');
  const launcher = start("node", [join(folder, "bin/hubwire.mjs"), "start"], makePeer(PEER));
  expect(await launcher.exitCode).toBe(1);
  await launcher.allEnded;
  expect(launcher.lines.join()).toContain(`Run: node ${join(folder, "node_modules/bun/install.js")}`);
});

test("says what to run when Bun is not installed at all", async () => {
  const folder = makeFolder();
  cpSync(dirname(LAUNCHER), folder, { recursive: true });
  const launcher = start("node", [join(folder, "hubwire.mjs"), "start"], makePeer(PEER));
  expect(await launcher.exitCode).toBe(1);
  await launcher.allEnded;
  expect(launcher.lines.join()).toContain("Run: npm ci");
});
