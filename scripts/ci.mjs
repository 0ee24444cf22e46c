// .ci/run: installs the programs, then `npm ci`, `npm test` and `npm run test:interop`, each of which must have them all.
// The last line is the sum of their last lines.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";

/** Debian's way to say "do not start services", which every package that has one asks. */
const SERVICE_POLICY = "/usr/sbin/policy-rc.d";
const PACKAGES = JSON.parse(readFileSync(new URL("programs.json", import.meta.url), "utf8"));
const env = { ...process.env, HUBWIRE_TEST_REQUIRE: "all" };

// From the start: a signal during apt-get waits for its end, so that nothing of the installation is left behind.
let stoppedBy = "";
let running = null;
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    stoppedBy = signal;
    running?.kill(signal);
  });
}

installPackages();
// Gives a signal that came meanwhile its turn.
await new Promise((resolve) => setImmediate(resolve));
const sum = { passed: 0, failed: 0, skipped: 0 };
const isReady = stoppedBy === "" && (await runCounted("npm", ["ci"])).code === 0;
for (const args of isReady ? [["test"], ["run", "test:interop"]] : []) {
  if (stoppedBy === "") add(await runCounted("npm", args), args);
}
if (!isReady || stoppedBy !== "") {
  console.error(stoppedBy === "" ? "npm ci failed." : `Stopped by ${stoppedBy}.`);
  sum.failed = Math.max(1, sum.failed);
}
console.log(`${sum.passed} passed, ${sum.failed} failed${sum.skipped > 0 ? `, ${sum.skipped} skipped` : ""}`);
process.exit(sum.failed > 0 ? 1 : 0);

/** A package that cannot be installed is not said here: its tests fail, since they must have it. */
function installPackages() {
  if (process.getuid?.() !== 0 || spawnSync("apt-get", ["--version"]).status !== 0) return;
  const packages = [...Object.values(PACKAGES.test), ...Object.values(PACKAGES.interop)].flatMap((text) =>
    text.split(" "),
  );
  const ownPolicy = !existsSync(SERVICE_POLICY);
  if (ownPolicy) writeFileSync(SERVICE_POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    aptGet(["update"]);
    // One that is unknown must not keep the others away.
    if (!aptGet(["install", "-y", "--no-install-recommends", ...packages])) {
      for (const name of packages) aptGet(["install", "-y", "--no-install-recommends", name]);
    }
  } finally {
    if (ownPolicy) rmSync(SERVICE_POLICY, { force: true });
  }
}

function aptGet(args) {
  const { status } = spawnSync("apt-get", args, {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    timeout: 15 * 60_000,
  });
  return status === 0;
}

/** Runs a command, its output going straight through, and returns its exit code and its last line. */
function runCounted(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"], env });
    running = child;
    let tail = "";
    child.stdout.on("data", (bytes) => {
      process.stdout.write(bytes);
      tail = (tail + bytes.toString("utf8")).slice(-1_000);
    });
    child.on("error", () => resolve({ code: 1, line: "" }));
    child.on("close", (code) => resolve({ code, line: tail.trimEnd().split("\n").at(-1) ?? "" }));
  });
}

function add({ code, line }, args) {
  const found = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/.exec(line);
  if (found === null) console.error(`npm ${args.join(" ")} ended without its counts.`);
  const [passed, failed, skipped] = found === null ? [0, 1, 0] : found.slice(1).map((text) => Number(text ?? 0));
  sum.passed += passed;
  sum.failed += code === 0 || failed > 0 ? failed : 1;
  sum.skipped += skipped;
}
