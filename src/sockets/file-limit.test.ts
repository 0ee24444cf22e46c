import { describe, expect, test } from "bun:test";
import { parseConfig } from "../config/load.ts";
import { fitFileLimit } from "./file-limit.ts";

const urlTemplate = "http://127.0.0.1:1/{event}";
const entries = (count: number, entry = {}) => Array.from({ length: count }, () => ({ urlTemplate, ...entry }));

interface Wanted {
  readonly maxConnections?: number;
  readonly upstreams?: readonly object[];
  readonly listen?: object;
}

/** What a configuration becomes under a limit: the connections, each entry's calls, and what is said about it. */
function fit(limit: number | null, { maxConnections = 50_000, upstreams = entries(1), listen = {} }: Wanted = {}) {
  const { config, warnings } = fitFileLimit(parseConfig({ limits: { maxConnections }, upstreams, listen }), limit);
  const calls = config.upstreams.map((entry) => entry.maxConcurrency);
  return { connections: config.limits.maxConnections, calls, warnings };
}

test("what is configured is had where the file limit allows it", () => {
  expect(fit(10_000, { maxConnections: 5000 })).toEqual({ connections: 5000, calls: [1024], warnings: [] });
  expect(fit(null)).toEqual({ connections: 50_000, calls: [1024], warnings: [] });
});

test("connections are lowered to what the calls and the process's own files leave", () => {
  expect(fit(20_000)).toEqual({
    connections: 20_000 - 64 - 2 * 1024,
    calls: [1024],
    warnings: ["limits.maxConnections is lowered from 50000 to 17888: the file limit (ulimit -n) is 20000"],
  });
});

test("calls take no more than a quarter where not everything fits, so that most files are for connections", () => {
  expect(fit(1024)).toEqual({
    connections: 720,
    calls: [120],
    warnings: [
      "limits.maxConnections is lowered from 50000 to 720: the file limit (ulimit -n) is 1024",
      "maxConcurrency is lowered to 120 in upstreams[0]: the file limit (ulimit -n) is 1024",
    ],
  });
});

test("calls take what few connections leave", () => {
  expect(fit(1024, { maxConnections: 100 })).toMatchObject({ connections: 100, calls: [430] });
});

test("twenty entries share what calls may take, and connections are not lowered to 1", () => {
  const { connections, calls, warnings } = fit(20_000, { upstreams: entries(20) });
  expect(calls).toEqual(new Array(20).fill(124));
  expect(connections).toBe(20_000 - 64 - 2 * 20 * 124);
  expect(warnings[1]).toStartWith("maxConcurrency is lowered to 124 in upstreams[0], upstreams[1],");
});

test("an entry that asks for less keeps that, and leaves the rest to the others", () => {
  const upstreams = [...entries(1, { maxConcurrency: 8 }), ...entries(2)];
  const { calls, warnings } = fit(1024, { upstreams });
  expect(calls).toEqual([8, 56, 56]);
  expect(warnings[1]).toContain("in upstreams[1], upstreams[2]:");
});

test("an address keeps its part of the places that are lowered", () => {
  const upstreams = entries(1, { maxConcurrency: 1000, maxConcurrencyPerAddress: 500 });
  const { config } = fitFileLimit(parseConfig({ upstreams }), 1024);
  expect(config.upstreams[0]).toMatchObject({ maxConcurrency: 120, maxConcurrencyPerAddress: 60 });
});

test("every entry has a place, however many there are", () => {
  const { calls } = fit(600, { upstreams: entries(200) });
  expect(calls).toEqual(new Array(200).fill(1));
});

test("no configuration uses more files than the limit allows", () => {
  for (const limit of [200, 333, 1000, 4096, 65_536]) {
    for (const count of [0, 1, 3, 30]) {
      for (const clientCert of [false, true]) {
        const tls = { certFile: "c", keyFile: "k", clientCaFile: "ca", clientCert: "require" };
        const listen = clientCert ? { tls } : {};
        // Three files for each connection: 64 of them do not fit into the smallest limits.
        if (clientCert && limit < 400) continue;
        const { connections, calls } = fit(limit, { upstreams: entries(count), listen });
        expect(64 + connections * (clientCert ? 3 : 1) + calls.reduce((sum, one) => sum + 2 * one, 0)).toBeWithin(
          1,
          limit + 1,
        );
      }
    }
  }
});

test("a second listener has 64 files of its own", () => {
  const api = { listen: { api: { host: "127.0.0.1", port: 8081 } } };
  expect(fit(20_000).connections - fit(20_000, api).connections).toBe(64);
});

describe("fewer than 64 connections", () => {
  test("are refused with the numbers, and 64 are not", () => {
    expect(fit(148).connections).toBe(64);
    expect(() => fit(147)).toThrow(
      "the file limit (ulimit -n) of 147 has room for 63 connections, and at least 64 are needed: 64 for the gateway itself, 20 for calls to upstreams, 1 for each connection. Raise the limit, or set limits.maxConnections to 63 or less",
    );
  });

  test("are taken where maxConnections asks for no more", () => {
    expect(fit(147, { maxConnections: 63 })).toMatchObject({ connections: 63, calls: [10] });
    expect(fit(67, { maxConnections: 1 })).toMatchObject({ connections: 1, calls: [1] });
    expect(() => fit(66, { maxConnections: 1 })).toThrow("has room for 0 connections, and at least 1 are needed");
  });
});

/** Asks in a process of its own, since no process can raise its limit again. */
async function connectionsUnder(ulimit: string): Promise<number> {
  const script = `import { parseConfig } from "../config/load.ts"; import { fitFileLimit } from "./file-limit.ts";
    console.log(fitFileLimit(parseConfig({})).config.limits.maxConnections);`;
  const command = `${ulimit} && exec "$0" -e "$1"`;
  const child = Bun.spawn(["sh", "-c", command, process.execPath, script], {
    cwd: import.meta.dir,
    stdout: "pipe",
    stderr: "inherit",
  });
  return Number(await new Response(child.stdout).text());
}

test("the hard limit of the process counts, since Bun raises the soft one to it", async () => {
  expect(await connectionsUnder("ulimit -n 1000")).toBe(1000 - 64);
  expect(await connectionsUnder("ulimit -S -n 128 && ulimit -H -n 1000")).toBe(1000 - 64);
});
