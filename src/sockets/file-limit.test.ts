import { expect, test } from "bun:test";
import type { fittingConnections } from "./file-limit.ts";

/** Asks the function in a process of its own, under a hard limit of the test's choosing. */
async function underLimit(
  hardLimit: number,
  wanted: number,
  use: Parameters<typeof fittingConnections>[1],
): Promise<number> {
  const script = `import { fittingConnections } from "./file-limit.ts";
    console.log(fittingConnections(${wanted}, ${JSON.stringify(use)}));`;
  const command = `ulimit -n ${hardLimit} && exec "$0" -e "$1"`;
  const child = Bun.spawn(["sh", "-c", command, process.execPath, script], {
    cwd: import.meta.dir,
    stdout: "pipe",
    stderr: "inherit",
  });
  return Number(await new Response(child.stdout).text());
}

test("what is wanted is had where the file limit allows it", async () => {
  expect(await underLimit(1000, 500, { perConnection: 1, upstreamCalls: 100, listeners: 1 })).toBe(500);
});

test("else as many as fit beside the upstream calls and the process's own files", async () => {
  const fitting = await underLimit(1000, 5000, { perConnection: 1, upstreamCalls: 100, listeners: 1 });
  expect(fitting).toBeGreaterThan(700);
  expect(fitting).toBeLessThanOrEqual(1000 - 100 - 20);
});

test("a connection that takes three files counts three times", async () => {
  const one = await underLimit(1000, 5000, { perConnection: 1, upstreamCalls: 100, listeners: 1 });
  expect(await underLimit(1000, 5000, { perConnection: 3, upstreamCalls: 100, listeners: 1 })).toBe(
    Math.floor(one / 3),
  );
});

test("a second listener has files of its own, however many each connection takes", async () => {
  for (const perConnection of [1, 3]) {
    const use = { perConnection, upstreamCalls: 100 };
    const alone = await underLimit(1000, 5000, { ...use, listeners: 1 });
    const withApi = await underLimit(1000, 5000, { ...use, listeners: 2 });
    expect((alone - withApi) * perConnection).toBeWithin(60, 70);
  }
});

test("one connection is always had", async () => {
  expect(await underLimit(200, 5000, { perConnection: 1, upstreamCalls: 1000, listeners: 1 })).toBe(1);
});

test("the hard limit counts, since Bun raises the soft one to it", async () => {
  const script = `import { fittingConnections } from "./file-limit.ts";
    console.log(fittingConnections(900, { perConnection: 1, upstreamCalls: 0, listeners: 1 }));`;
  const command = `ulimit -S -n 128 && ulimit -H -n 1000 && exec "$0" -e "$1"`;
  const child = Bun.spawn(["sh", "-c", command, process.execPath, script], { cwd: import.meta.dir, stdout: "pipe" });
  expect(Number(await new Response(child.stdout).text())).toBe(900);
});
