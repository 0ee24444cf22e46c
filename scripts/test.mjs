// npm test: lint, types and every test but those of test/interop, which `npm run test:interop` runs (--interop here).
// The last line is `N passed, N failed` (and `, N skipped`), with the counts of the JUnit files: what `bun test` prints or
// exits with can be right for a run that never happened.
//
// Arguments go on to one `bun test`: npm test -- src/config

import { spawn } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const RESULTS = process.env.HUBWIRE_TEST_RESULTS ?? join(ROOT, "test-results");
const BUN = join(ROOT, "node_modules", "bun", "bin", "bun.exe");
/** A run that hangs must end. */
const LIMIT_MINUTES = 60;
/**
 * The runner of Bun 1.4.5 was seen to stop between two tests of a long run, without using any CPU. A process that says nothing
 * for this long is ended and started once more; the second time it is a failure.
 */
const SILENCE_MINUTES = process.env.HUBWIRE_RELIABILITY === "long" ? 15 : 4;
/** Most test files wait more than they compute, so there are more processes than cores. */
const PROCESSES = 2 * Math.max(1, availableParallelism());
/** Short files share a process, which costs half a second to start; the folders of long ones come first and have one per file. */
const LONG_FIRST = ["test/cluster/", "test/reliability/", "test/e2e/limits-addresses", "test/browser/"];
const FILES_PER_PROCESS = 4;
const SLOWEST = 10;
const INTEROP = "test/interop/";

const args = process.argv.slice(2).filter((argument) => argument !== "--interop");
const isInterop = process.argv.includes("--interop");
/** One process at a time: its output is seen as it comes. */
const isAlone = args.length > 0 || isInterop;
const name = isInterop ? "npm run test:interop" : "npm test";
const SKIPS = join(RESULTS, isInterop ? "interop-skips.txt" : "skips.txt");
/** Programs that tests start, and the Debian package of each; test/support/programs.ts reads the same file. */
const PACKAGES = JSON.parse(readFileSync(join(ROOT, "scripts", "programs.json"), "utf8"));

const RUN_ID = `${process.pid}-${Date.now()}`;
// A user's PATH often lacks the folders where nginx is.
const path = [process.env.PATH, "/usr/sbin", "/sbin"].filter(Boolean).join(delimiter);
// Tests talk to 127.0.0.1 only; Bun's fetch would ask a proxy even for that.
const noProxy = [process.env.NO_PROXY, "127.0.0.1", "localhost", "::1"].filter(Boolean).join(",");
const env = {
  ...process.env,
  HUBWIRE_TEST_RUN: RUN_ID,
  PATH: path,
  NO_PROXY: noProxy,
  no_proxy: noProxy,
  HUBWIRE_TEST_SKIPS: SKIPS,
};
/** In the environment of every process of this run. */
const RUN = `HUBWIRE_TEST_RUN=${RUN_ID}`;
const running = new Set();
const ranFiles = [];

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

mkdirSync(RESULTS, { recursive: true });
rmSync(SKIPS, { force: true });
if (process.env.HUBWIRE_TEST_REQUIRE === "all" && !isInterop) {
  const missing = Object.keys(PACKAGES.test).filter((program) => !isInstalled(program));
  const sentences = missing.map((program) => `${program} is not installed`);
  if (missing.length > 0)
    finish({ passed: 0, failed: 1, skipped: 0 }, `${sentences.join(", ")}. ${howToInstall(missing)}`);
}

const problems = [];
// Next to the tests, which mostly wait; before them where they are few.
const checks = isInterop ? null : runChecks();
if (isAlone) await checks;
const counts = await runTests();
await checks;
printSlowest();
printSkipped(counts.skipped);
finish({ ...counts, failed: counts.failed + problems.length }, problems.map((name) => `${name} failed`).join(", "));

async function runChecks() {
  if ((await runWatched(join("node_modules", ".bin", "biome"), ["check", "."])) !== 0) problems.push("lint");
  if ((await runWatched(join("node_modules", ".bin", "tsc"), [])) !== 0) problems.push("types");
}

function killAll() {
  const left = listStarted();
  for (const child of running) killGroup(child);
  for (const pid of left) kill(pid);
}

/** Processes of this run in groups of their own, as gateways of tests may be: by the variable that all inherit. Linux only. */
function listStarted() {
  if (!existsSync("/proc/self/environ")) return [];
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(RUN);
    } catch {
      // Another user's, or it has just ended.
      return false;
    }
  });
}

function killGroup(child) {
  kill(-child.pid);
}

function kill(pid) {
  try {
    process.kill(Number(pid), "SIGKILL");
  } catch {
    // It has just ended.
  }
}

/** Runs the tests of the arguments in one process, or all of them side by side, and adds up their counts. */
async function runTests() {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  const waiting = args.length > 0 ? [args] : listBatches();
  let started = 0;
  const work = async () => {
    for (let batch = waiting.shift(); batch !== undefined; batch = waiting.shift()) {
      const counts = await runBatch(started++, batch);
      for (const name of Object.keys(sum)) sum[name] += counts[name];
    }
  };
  await Promise.all(Array.from({ length: isAlone ? 1 : PROCESSES }, work));
  return sum;
}

/** The test files of this run, the longest first. */
function listBatches() {
  const files = ["src", "test"]
    .flatMap((folder) => readdirSync(folder, { recursive: true }).map((file) => join(folder, file)))
    .filter((file) => file.endsWith(".test.ts") && file.startsWith(INTEROP) === isInterop)
    .sort();
  const isLong = (file) => LONG_FIRST.some((start) => file.startsWith(start));
  const batches = files.filter(isLong).map((file) => [file]);
  const short = files.filter((file) => !isLong(file)).reverse();
  while (short.length > 0) batches.push(short.splice(0, FILES_PER_PROCESS));
  // A path with ./ is a file; without it Bun takes it as a part of names.
  return batches.map((batch) => batch.map((file) => `./${file}`));
}

async function runBatch(index, args) {
  const junit = join(RESULTS, `${isInterop ? "interop" : "junit"}-${index}.xml`);
  const options = ["--isolate", "--timeout", "30000", "--reporter=junit", `--reporter-outfile=${junit}`];
  for (let attempt = 1; ; attempt++) {
    rmSync(junit, { force: true });
    const code = await runWatched(BUN, ["test", ...options, ...args]);
    if (code === "silent" && attempt === 1) {
      console.error(`${name}: the test runner said nothing for ${SILENCE_MINUTES} minutes: these tests are run again.`);
      continue;
    }
    const xml = existsSync(junit) ? readFileSync(junit, "utf8") : "";
    const counts = readCounts(xml);
    if (counts === null || counts.passed + counts.failed + counts.skipped === 0) {
      console.error(`${args.join(" ")}: no test has run, or the run ended before its end: there are no counts.`);
      return { passed: 0, failed: 1, skipped: 0 };
    }
    noteFiles(xml);
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
    // Where processes run side by side, the output of each is printed in one piece.
    const output = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (bytes) => {
        clearTimeout(silence);
        silence = startSilence();
        if (isAlone) process.stdout.write(bytes);
        else output.push(bytes);
      });
    }
    child.on("error", (error) => console.error(`${command}: ${error.message}`));
    child.on("close", (code) => {
      clearTimeout(silence);
      running.delete(child);
      process.stdout.write(Buffer.concat(output));
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

/** Bun's `time` of a file includes its hooks. */
function noteFiles(xml) {
  for (const [, attributes] of xml.matchAll(/^ {2}<testsuite ([^>]*)>/gm)) {
    const read = (name) => new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1];
    ranFiles.push({ file: read("file"), seconds: Number(read("time")), skipped: Number(read("skipped")) });
  }
}

function printSlowest() {
  if (args.length > 0) return;
  ranFiles.sort((one, other) => other.seconds - one.seconds);
  console.log("The slowest files:");
  for (const { file, seconds } of ranFiles.slice(0, SLOWEST))
    console.log(`${seconds.toFixed(1).padStart(7)} s  ${file}`);
}

/** Says why tests were skipped: a test whose program is missing has left a line; the others need what only some users and systems have. */
function printSkipped(count) {
  const lines = existsSync(SKIPS) ? readFileSync(SKIPS, "utf8").trim().split("\n") : [];
  if (lines.length > 0) {
    const programs = [...new Set(lines)].sort();
    const costs = programs.map((program) => `${program} (${lines.filter((line) => line === program).length})`);
    console.log(
      `Skipped ${lines.length} tests whose program is not installed: ${costs.join(", ")}. ${howToInstall(programs)}`,
    );
  }
  if (count === lines.length) return;
  const files = ranFiles.filter(({ skipped }) => skipped > 0).map(({ file }) => file);
  const where = lines.length > 0 ? "" : ` In ${files.sort().join(", ")}.`;
  console.log(
    `Skipped ${count - lines.length} tests that need root, mounts, network namespaces, Linux or HUBWIRE_RELIABILITY=long.${where}`,
  );
}

function howToInstall(programs) {
  const packages = programs.map((program) => PACKAGES.test[program] ?? PACKAGES.interop[program]);
  return `On Debian: apt-get install ${packages.join(" ")}`;
}

/** HUBWIRE_TEST_WITHOUT names programs that count as missing, for the tests of this script. */
function isInstalled(program) {
  if (process.env.HUBWIRE_TEST_WITHOUT?.split(",").includes(program)) return false;
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
  if (reason !== "") console.error(`${name}: ${reason}`);
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  process.exit(failed > 0 ? 1 : 0);
}
