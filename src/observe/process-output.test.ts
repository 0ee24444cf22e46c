import { expect, test } from "bun:test";

/** Runs a script that has `output`, in a process of its own. */
function run(script: string, index?: string) {
  const before = `import { ProcessOutput } from "./process-output.ts";
    import { systemClock as clock } from "../gateway/system-clock.ts";
    const output = new ProcessOutput({ index: ${JSON.stringify(index)}, maxLogBufferBytes: 65_536, clock });`;
  const { stdout, stderr, exitCode } = Bun.spawnSync([process.execPath, "-e", before + script], {
    cwd: import.meta.dir,
  });
  const lines = stderr
    .toString()
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { stdout: stdout.toString(), lines, exitCode };
}

test("the log goes to standard error as JSON lines at level info, people's lines to standard output; all is there at the end", () => {
  const { stdout, lines, exitCode } = run(`
    output.log.debug("left out");
    output.print("for people");
    output.log.info({ hub: "chat" }, "written");
    output.pass(Buffer.from("passed on\\n"));
    await output.end(3);`);
  expect([stdout, exitCode]).toEqual(["for people\npassed on\n", 3]);
  const [{ time, ...line } = {}, ...more] = lines;
  expect([line, more]).toEqual([{ level: 30, hub: "chat", msg: "written" }, []]);
  expect(String(time)).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
});

test("every line has the process's number where there is one", () => {
  expect(run('output.log.info("a"); await output.end(0);', "3").lines).toMatchObject([{ process: 3 }]);
});

test("what nobody catches is logged and ends nothing; the same a thousand times over is a line and a sum", () => {
  const { lines, exitCode } = run(`
    output.takeAll();
    for (let i = 0; i < 500; i++) setTimeout(() => { throw new Error("a bug"); }, 0);
    for (let i = 0; i < 500; i++) void Promise.reject(new Error("a bug"));
    setTimeout(() => output.end(0), 100);`);
  expect(exitCode).toBe(0);
  expect(lines.map(({ msg, err }) => [msg, (err as Error).message])).toEqual(
    lines.map(() => ["fault of the service", "a bug"]),
  );
  expect(lines.reduce((sum, { count = 1 }) => sum + Number(count), 0)).toBe(1000);
  expect(lines.length).toBeLessThanOrEqual(3);
});

test("what libraries print goes into the log", () => {
  const { stdout, lines } = run(`
    output.takeAll();
    console.log("reader %s", "closed", { code: 7 });
    console.error("x".repeat(100_000));
    await output.end(0);`);
  expect(stdout).toBe("");
  expect(lines).toMatchObject([
    { level: 40, msg: "printed by a library", text: "reader closed { code: 7 }" },
    { text: "x".repeat(1000) },
  ]);
});
