// npm test: lint, types, then every test. The last line is `N passed, N failed` (and `, N skipped`), with the counts of
// the JUnit file: what `bun test` prints or exits with can be right for a run that never happened.
//
// Arguments go on to `bun test`: npm test -- src/config

import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const RESULTS = join(ROOT, "test-results");
const BUN = join(ROOT, "node_modules", "bun", "bin", "bun.exe");
/** A run that hangs must end. */
const LIMIT_MINUTES = 60;
/**
 * Each of these has a process of its own, one after the other: the runner of Bun 1.4.5 was seen to stop between two tests of a long
 * run, without using any CPU. A process that says nothing for so long is ended and started once more; the second time it is a failure.
 */
const GROUPS = [["src/"], ["test/e2e/"], ["test/"]];
const NOT_IN = new Map([["test/", "test/e2e"]]);
const SILENCE_MINUTES = process.env.HUBWIRE_RELIABILITY === "long" ? 15 : 4;
/** Programs that tests run, and the Debian package of each. */
const PROGRAMS = new Map([
  ["openssl", "openssl"],
  ["nginx", "nginx"],
  ["chromium", "chromium"],
  ["nats-server", "nats-server"],
  ["ip", "iproute2"],
]);
/** Debian's word for "do not start services", asked for by every package that has one. */
const SERVICE_POLICY = "/usr/sbin/policy-rc.d";

// A user's PATH often lacks the folders where nginx is.
const path = [process.env.PATH, "/usr/sbin", "/sbin"].filter(Boolean).join(delimiter);
// Tests talk to 127.0.0.1 only; Bun's fetch would ask a proxy even for that.
const noProxy = [process.env.NO_PROXY, "127.0.0.1", "localhost", "::1"].filter(Boolean).join(",");
const env = { ...process.env, PATH: path, NO_PROXY: noProxy, no_proxy: noProxy };
const running = new Set();

process.chdir(ROOT);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    killAll();
    finish({ passed: 0, failed: 1, skipped: 0 }, `stopped by ${signal}`);
  });
}
setTimeout(() => {
  killAll();
  finish({ passed: 0, failed: 1, skipped: 0 }, `the run took more than ${LIMIT_MINUTES} minutes and was ended`);
}, LIMIT_MINUTES * 60_000).unref();

const missing = installPrograms();
if (missing !== null) finish({ passed: 0, failed: 1, skipped: 0 }, missing);

const lintFailed = (await run(join("node_modules", ".bin", "biome"), ["check", "."])) !== 0;
const typesFailed = (await run(join("node_modules", ".bin", "tsc"), [])) !== 0;
const counts = await runTests(process.argv.slice(2));
const problems = [lintFailed && "lint", typesFailed && "types"].filter(Boolean);
finish({ ...counts, failed: counts.failed + problems.length }, problems.map((name) => `${name} failed`).join(", "));

/** Runs a program to its end, its output going straight through, and returns its exit code; null if a signal ended it. */
function run(command, args) {
  return new Promise((resolve) => {
    // A group of its own, so that what it starts can be ended with it.
    const child = spawn(command, args, { stdio: "inherit", env, detached: true });
    running.add(child);
    child.on("error", (error) => {
      console.error(`${command}: ${error.message}`);
      running.delete(child);
      resolve(null);
    });
    child.on("exit", (code) => {
      running.delete(child);
      resolve(code);
    });
  });
}

function killAll() {
  for (const child of running) killGroup(child);
}

function killGroup(child) {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has just ended.
  }
}

/** Runs the tests of these paths, or all of them, and adds up their counts. */
async function runTests(args) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  const groups = args.length > 0 ? [args] : GROUPS;
  for (const [index, paths] of groups.entries()) {
    const left = NOT_IN.get(paths[0]);
    const options = left === undefined || args.length > 0 ? [] : ["--path-ignore-patterns", left];
    const counts = await runGroup(index, [...options, ...paths]);
    for (const name of Object.keys(sum)) sum[name] += counts[name];
  }
  return sum;
}

async function runGroup(index, args) {
  const junit = join(RESULTS, `junit-${index}.xml`);
  mkdirSync(RESULTS, { recursive: true });
  const options = ["--isolate", "--timeout", "30000", "--reporter=junit", `--reporter-outfile=${junit}`];
  for (let attempt = 1; ; attempt++) {
    rmSync(junit, { force: true });
    const code = await runWatched(BUN, ["test", ...options, ...args]);
    if (code === "silent" && attempt === 1) {
      console.error(
        `npm test: the test runner said nothing for ${SILENCE_MINUTES} minutes: these tests are run again.`,
      );
      continue;
    }
    const counts = existsSync(junit) ? readCounts(readFileSync(junit, "utf8")) : null;
    if (counts === null || counts.passed + counts.failed === 0) {
      console.error("No test has run, or the run ended before its end: there are no counts.");
      return { passed: 0, failed: 1, skipped: counts?.skipped ?? 0 };
    }
    // A file that does not load, or an error between two tests, fails the run without failing a test.
    return code === 0 || counts.failed > 0 ? counts : { ...counts, failed: 1 };
  }
}

/** As `run`, but ends a program that says nothing for too long, with all that it started: "silent". */
function runWatched(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["inherit", "pipe", "pipe"], env, detached: true });
    running.add(child);
    let isSilent = false;
    const startSilence = () =>
      setTimeout(() => {
        isSilent = true;
        killGroup(child);
      }, SILENCE_MINUTES * 60_000);
    let silence = startSilence();
    for (const [from, to] of [
      [child.stdout, process.stdout],
      [child.stderr, process.stderr],
    ]) {
      from.on("data", (bytes) => {
        clearTimeout(silence);
        silence = startSilence();
        to.write(bytes);
      });
    }
    child.on("error", (error) => console.error(`${command}: ${error.message}`));
    child.on("close", (code) => {
      clearTimeout(silence);
      running.delete(child);
      resolve(isSilent ? "silent" : code);
    });
  });
}

/** The sums in the root element; null if it has no sums. */
function readCounts(xml) {
  const root = /<testsuites\b[^>]*>/.exec(xml)?.[0];
  const sum = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(root ?? "")?.[1] ?? Number.NaN);
  const [tests, failed, skipped] = [sum("tests"), sum("failures"), sum("skipped")];
  return [tests, failed, skipped].every(Number.isInteger)
    ? { passed: tests - failed - skipped, failed, skipped }
    : null;
}

/** Makes sure that the programs are there; returns a sentence where they are not and cannot be brought. */
function installPrograms() {
  const programs = [...PROGRAMS.keys()].filter((program) => !isInstalled(program));
  const missing = programs.map((program) => PROGRAMS.get(program));
  if (missing.length === 0) return null;
  const request = `the tests need ${programs.join(" and ")}: install with apt-get install ${missing.join(" ")}, or your system's way`;
  if (process.getuid?.() !== 0 || !isInstalled("apt-get")) return request;
  console.log(`Installing ${missing.join(", ")} for the tests.`);
  const ownPolicy = !existsSync(SERVICE_POLICY);
  if (ownPolicy) writeFileSync(SERVICE_POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    aptGet(["update"]);
    aptGet(["install", "-y", "--no-install-recommends", ...missing]);
  } finally {
    if (ownPolicy) rmSync(SERVICE_POLICY, { force: true });
  }
  return programs.every(isInstalled) ? null : request;
}

function aptGet(args) {
  spawnSync("apt-get", args, {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...env, DEBIAN_FRONTEND: "noninteractive" },
    timeout: 10 * 60_000,
  });
}

function isInstalled(program) {
  return path.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function finish({ passed, failed, skipped }, reason) {
  if (reason !== "") console.error(`npm test: ${reason}`);
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  process.exit(failed > 0 ? 1 : 0);
}
