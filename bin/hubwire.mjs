#!/usr/bin/env node
// Starts hubwire under Bun and lives exactly as long as it does: signals go down, the exit code comes up, and neither
// survives the other. Plain Node without packages, since this is what runs when anything else is missing.
//
//   npm start ── sh ── launcher (this file) ── bun src/main.ts
//
// Bun gets a process group of its own. Otherwise a terminal's Ctrl-C would reach it three times: from the terminal, from
// npm through this launcher, and from the terminal through this launcher.

import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { isatty } from "node:tty";
import { fileURLToPath } from "node:url";
import { BUN_FLAGS, BUN_SETTINGS, cacheSettings } from "./bun-settings.mjs";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"];
/** A signal to end that comes again this soon is the same one, passed on by npm too. */
const SAME_SIGNAL_MS = 1000;
const PARENT_POLL_MS = 500;

const main = process.env.HUBWIRE_TEST_MAIN ?? fileURLToPath(new URL("../src/main.ts", import.meta.url));
// Set before the child is started: a signal in between would end the launcher alone. Handlers run when this script is done.
const lastPassedOn = new Map();
const isAtTerminal = [0, 1, 2].some((file) => isatty(file)) && canOpenTerminal();
for (const signal of SIGNALS) process.on(signal, () => passOn(signal));

function passOn(received) {
  // SIGHUP asks for a reload, but it is also what comes when the terminal's window is closed. Under nohup none of the three
  // standard streams is a terminal.
  const signal = received === "SIGHUP" && isAtTerminal && !canOpenTerminal() ? "SIGTERM" : received;
  // A reload too much does no harm; one too few would.
  if (signal === "SIGHUP") return void child.kill(signal);
  const now = performance.now();
  if (now - (lastPassedOn.get(signal) ?? Number.NEGATIVE_INFINITY) < SAME_SIGNAL_MS) return;
  lastPassedOn.set(signal, now);
  child.kill(signal);
}

function canOpenTerminal() {
  try {
    closeSync(openSync("/dev/tty", "r"));
    return true;
  } catch {
    return false;
  }
}

const child = spawn(findBun(), [...BUN_FLAGS, main, ...process.argv.slice(2)], {
  stdio: "inherit",
  detached: true,
  env: { ...BUN_SETTINGS, ...cacheSettings(process.env), ...process.env, HUBWIRE_LAUNCHER_PID: String(process.pid) },
});

child.on("error", (error) => stop(`Bun could not be started: ${error.message}`));
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));

// Under npm, npm's end is ours: a SIGKILL cannot be passed on. Without npm the parent may well be a shell that starts
// hubwire in the background and leaves.
if (process.env.npm_lifecycle_event !== undefined) {
  const isAlive = watchNpm();
  const poll = setInterval(() => {
    if (isAlive()) return;
    clearInterval(poll);
    child.kill("SIGTERM");
  }, PARENT_POLL_MS);
}

/** Returns a function that tells whether the npm that runs this script is still there. */
function watchNpm() {
  const parent = process.ppid;
  const { command, ppid: grandparent } = readStat(parent);
  // Unless it replaced itself by this script, a shell is between npm and this process, and survives npm's SIGKILL.
  const isShellBetween = ["sh", "dash", "ash", "bash", "zsh", "busybox"].includes(command);
  return () => process.ppid === parent && (!isShellBetween || readStat(parent).ppid === grandparent);
}

/** A process's command and parent; empty where the system has no /proc, and then only our own parent is watched. */
function readStat(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command is in parentheses and may hold anything, parentheses and spaces too.
    const end = stat.lastIndexOf(")");
    return { command: stat.slice(stat.indexOf("(") + 1, end), ppid: Number(stat.slice(end + 2).split(" ")[1]) };
  } catch {
    return { command: "", ppid: 0 };
  }
}

function findBun() {
  let folder;
  try {
    folder = dirname(createRequire(import.meta.url).resolve("bun/package.json"));
  } catch {
    return stop("the package bun is not installed. Run: npm ci");
  }
  const path = join(folder, "bin", "bun.exe");
  if (isBinary(path)) return path;
  return stop(`Bun's binary is missing, since its install script did not run. Run: node ${join(folder, "install.js")}`);
}

/** Until the install script has run, a text is in the place of the binary. */
function isBinary(path) {
  try {
    const start = Buffer.alloc(4);
    const file = openSync(path, "r");
    const length = readSync(file, start);
    closeSync(file);
    return length === start.length && start.some((byte) => byte < 0x09 || byte > 0x7e);
  } catch {
    return false;
  }
}

function stop(sentence) {
  console.error(`hubwire: ${sentence}`);
  process.exit(1);
}
