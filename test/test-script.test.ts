import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until, within } from "./support/deadline.ts";

setDefaultTimeout(60_000);

const ROOT = join(import.meta.dir, "..");
const SKIPS = "./test/fixtures/test-script/skips.ts";
const SKIPS_OTHERWISE = "./test/fixtures/test-script/skips-otherwise.ts";
const HANGS = "./test/fixtures/test-script/hangs.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-script-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Starts scripts/test.mjs; with --interop it leaves out lint and types, which are not tested here. */
function start(args: readonly string[], variables: Readonly<Record<string, string>>) {
  const { HUBWIRE_TEST_REQUIRE: _require, ...rest } = process.env;
  const env = { ...rest, HUBWIRE_TEST_RESULTS: folder, ...variables };
  return Bun.spawn(["node", "scripts/test.mjs", ...args], { cwd: ROOT, env, stdout: "pipe", stderr: "pipe" });
}

async function run(args: readonly string[], variables: Readonly<Record<string, string>> = {}) {
  const child = start(args, variables);
  const [out, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, lines: out.trimEnd().split("\n"), errors };
}

test("tests of a missing program are skipped, counted, and explained in one line", async () => {
  const { code, lines } = await run(["--interop", SKIPS], { HUBWIRE_TEST_WITHOUT: "nginx" });
  expect(lines.slice(-2)).toEqual([
    "Skipped 3 tests whose program is not installed: nginx (3). On Debian: apt-get install nginx",
    "1 passed, 0 failed, 3 skipped",
  ]);
  expect(code).toBe(0);
});

test("tests that are skipped for another reason are explained too, with their file", async () => {
  const { lines } = await run(["--interop", SKIPS_OTHERWISE]);
  expect(lines.slice(-2)).toEqual([
    `Skipped 1 tests that need root, mounts, network namespaces, Linux or HUBWIRE_RELIABILITY=long. In ${SKIPS_OTHERWISE.slice(2)}.`,
    "1 passed, 0 failed, 1 skipped",
  ]);
});

test("a missing program fails the file that starts it under HUBWIRE_TEST_REQUIRE=all", async () => {
  const required = { HUBWIRE_TEST_WITHOUT: "nginx", HUBWIRE_TEST_REQUIRE: "all" };
  const { code, lines } = await run(["--interop", SKIPS], required);
  expect(lines.join("\n")).toContain("nginx is not installed (Debian package: nginx)");
  expect(lines.at(-1)).toBe("0 passed, 1 failed");
  expect(code).toBe(1);
});

test("npm test ends at once where a program is missing under HUBWIRE_TEST_REQUIRE=all", async () => {
  const required = { HUBWIRE_TEST_WITHOUT: "nats-server", HUBWIRE_TEST_REQUIRE: "all" };
  const { code, lines, errors } = await run([], required);
  expect(errors).toContain("nats-server is not installed");
  expect(lines).toEqual(["0 passed, 1 failed"]);
  expect(code).toBe(1);
});

test.each(["SIGTERM", "SIGINT"] as const)(
  "%s ends what tests have started, in groups of their own too",
  async (signal) => {
    const file = join(folder, "pid");
    const child = start(["--interop", HANGS], { HANGS_PID_FILE: file });
    await until(() => existsSync(file) && readFileSync(file, "utf8").endsWith("\n"), "the test to start its process");
    const pid = readFileSync(file, "utf8").trim();
    child.kill(signal);
    expect(await within(child.exited, "the run to end")).toBe(1);
    // A process that has ended stays a zombie until its parent reads its end.
    const hasEnded = () => !existsSync(`/proc/${pid}/cmdline`) || readFileSync(`/proc/${pid}/cmdline`, "utf8") === "";
    await until(hasEnded, "the process that the test started to end");
  },
);
