import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CommandGateway } from "./support/command-gateway.ts";
import { KEYS, startTestGateway } from "./support/gateway.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";

const LAUNCHER = join(import.meta.dir, "..", "bin", "hubwire.mjs");
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-command-line-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function writeConfig(name: string, config: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, JSON.stringify(config));
  return path;
}

async function hubwire(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = Bun.spawn(["node", LAUNCHER, ...args], {
    cwd: folder,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}

describe("hubwire version", () => {
  test("prints the version and that of Bun", async () => {
    const { code, stdout } = await hubwire("version");
    expect(stdout).toMatch(/^hubwire \d+\.\d+\.\d+ \(Bun 1\.4\.\d+\)\n$/);
    expect(code).toBe(0);
  });
});

describe("hubwire start", () => {
  test("says where each listener is, on standard output and in the log; its connection string names the API's", async () => {
    await using gateway = await CommandGateway.start({ config: { listen: { api: { port: 0 } }, accessKeys: KEYS } });
    const [, api = ""] = await gateway.lines(/^the REST API is at (http:\/\/127\.0\.0\.1:\d+)$/m);
    await gateway.lines(/^connection string: /m);
    expect(gateway.printed()).toContain(`\nconnection string: Endpoint=${api};AccessKey=***;`);
    const listening = await gateway.logged("listening");
    expect(listening).toMatchObject({ url: `http://127.0.0.1:${gateway.port}`, apiUrl: api });
    expect((await fetch(`${api}/ws/api/messages`)).status).toBe(405);
    expect((await fetch(`http://127.0.0.1:${gateway.port}/ws/api/messages`)).status).toBe(404);
  });

  test("says one place where both share a listener", async () => {
    await using gateway = await CommandGateway.start({ config: { accessKeys: KEYS } });
    const url = `http://127.0.0.1:${gateway.port}`;
    await gateway.lines(/^connection string: /m);
    expect(gateway.printed()).toContain(`connection string: Endpoint=${url};`);
    expect(gateway.printed()).not.toContain("REST API");
    expect(await gateway.logged("listening")).not.toHaveProperty("apiUrl");
  });
});

describe("hubwire check", () => {
  test("says that a good file is good and exits with 0", async () => {
    const file = writeConfig("good.json", { upstreams: [{ urlTemplate: "http://127.0.0.1:1/{hub}/api/{event}" }] });
    const { code, stdout } = await hubwire("check", "--config", file);
    expect(stdout).toContain("good.json is good.");
    expect(stdout).toContain("clients and the REST API: http://127.0.0.1:8080\n");
    expect(code).toBe(0);
  });

  test("says where each listener is, the last line that the file is good", async () => {
    const listen = { host: "0.0.0.0", api: { port: 8081 } };
    const upstreams = [{ urlTemplate: "http://127.0.0.1:1/{event}" }];
    const limits = { maxConnections: 100 };
    const file = writeConfig("apart.json", { listen, upstreams, limits, publicUrls: ["https://a.example"] });
    const { code, stdout } = await hubwire("check", "--config", file);
    const lines = ["clients: http://0.0.0.0:8080", "the REST API: http://127.0.0.1:8081", `${file} is good.`, ""];
    expect([code, stdout]).toEqual([0, lines.join("\n")]);
  });

  test("refuses one place for both listeners", async () => {
    const file = writeConfig("same.json", { listen: { port: 9000, api: { port: 9000 } } });
    const { code, stderr } = await hubwire("check", "--config", file);
    expect([code, stderr]).toEqual([2, expect.stringContaining("listen.api.port: must differ from listen.port")]);
  });

  test("reports all faults of a bad file with their paths, none with its value, and exits with 2", async () => {
    const file = writeConfig("bad.json", {
      listen: { prot: 1 },
      accessKeys: { primary: "", secondary: "hush-hush" },
      upstreams: [{ urlTemplate: "http://{hub}.example/?code=hush-hush", timeoutMs: -1 }],
    });
    const { code, stdout, stderr } = await hubwire("check", "--config", file);
    for (const path of ["listen.prot", "accessKeys.primary", "upstreams[0].urlTemplate", "upstreams[0].timeoutMs"]) {
      expect(stderr).toContain(path);
    }
    expect(stderr).toContain("did you mean");
    expect(stdout + stderr).not.toContain("hush-hush");
    expect(code).toBe(2);
  });

  test("says that a cluster's file is good, without asking NATS", async () => {
    const cluster = { nats: { servers: ["nats://127.0.0.1:1"] } };
    const file = writeConfig("cluster.json", { cluster, accessKeys: KEYS });
    const { code, stdout } = await hubwire("check", "--config", file);
    expect(stdout).toContain("cluster.json is good.");
    expect(code).toBe(0);
  });

  test("says that a file is missing", async () => {
    const { code, stderr } = await hubwire("check", "--config", join(folder, "nowhere.yaml"));
    expect(stderr).toContain("nowhere.yaml");
    expect(code).toBe(2);
  });
});

describe("hubwire token", () => {
  test("prints a client URL with which the gateway lets the user in", async () => {
    await using gateway = await startTestGateway({});
    const file = writeConfig("token.json", { listen: { port: gateway.port }, accessKeys: KEYS });
    const { code, stdout } = await hubwire("token", "--config", file, "--hub", "chat", "--user", "alice");
    expect(code).toBe(0);
    const url = new URL(stdout.trim());
    expect(url.origin.replace("ws:", "http:")).toBe(gateway.url);
    // Without an upstream only a token that names a user opens a connection.
    using client = await RawWebSocket.open({ port: gateway.port, path: url.pathname + url.search });
    client.close(4000, "done");
    expect(await client.closed()).toEqual({ code: 4000, reason: "done" });
  });

  test("prints the URL of a path of the configuration, which its token opens alone", async () => {
    const paths = [{ pattern: "/ocpp/{id}", hub: "ocpp" }];
    await using gateway = await startTestGateway({ paths, hubs: { ocpp: { anonymous: "deny" } } });
    const file = writeConfig("path-token.json", { listen: { port: gateway.port }, accessKeys: KEYS, paths });
    const { code, stdout } = await hubwire("token", "--config", file, "--path", "/ocpp/CP%201", "--user", "CP 1");
    expect(code).toBe(0);
    const { pathname, search } = new URL(stdout.trim());
    expect(pathname).toBe("/ocpp/CP%201");
    using client = await RawWebSocket.open({ port: gateway.port, path: pathname + search });
    client.close(4000, "done");
    expect(await client.closed()).toEqual({ code: 4000, reason: "done" });
    using other = await RawWebSocket.request({ port: gateway.port, path: `/ocpp/CP2${search}` });
    expect((await other.answer()).status).toBe(401);
  });

  test.each(["/other", "/ocpp/CP 1", "/ocpp/../ocpp/CP1", "/ocpp/CP1?x=1", "/ws/client"])(
    "says of a path that is not one of the configuration's so, and exits with 2: %s",
    async (path) => {
      const paths = [{ pattern: "/ocpp/{id}", hub: "ocpp" }];
      const file = writeConfig("other-path.json", { listen: { port: 1 }, accessKeys: KEYS, paths });
      const { code, stderr, stdout } = await hubwire("token", "--config", file, "--path", path, "--user", "ann");
      expect([code, stdout]).toEqual([2, ""]);
      expect(stderr).toContain("--path must match a pattern of `paths`");
    },
  );

  test("without a configured key, uses the one kept in dataDir, readable by its owner only", async () => {
    const file = writeConfig("kept.json", { dataDir: join(folder, "kept") });
    const { code } = await hubwire("token", "--config", file, "--hub", "chat", "--user", "alice");
    expect(code).toBe(0);
    expect(statSync(join(folder, "kept")).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, "kept", "access-key")).mode & 0o777).toBe(0o600);
  });

  test("without a user says what is missing and exits with 2", async () => {
    const { code, stderr } = await hubwire("token", "--hub", "chat");
    expect(stderr).toContain("--user");
    expect(code).toBe(2);
  });
});

describe("hubwire start", () => {
  test("says that the port is taken and exits with 1", async () => {
    await using gateway = await startTestGateway({});
    const file = writeConfig("taken.json", { listen: { port: gateway.port }, dataDir: join(folder, "taken") });
    const { code, stderr } = await hubwire("start", "--config", file);
    expect(stderr).toContain(String(gateway.port));
    expect(code).toBe(1);
  });

  test("refuses a bad configuration with its report and exits with 2", async () => {
    const file = writeConfig("later.json", { upstreams: [{ urlTemplate: "http://h/", dialect: "cloudevents" }] });
    const { code, stderr } = await hubwire("start", "--config", file);
    expect(stderr).toContain("upstreams[0].dialect");
    expect(stderr).toContain("not in this version");
    expect(code).toBe(2);
  });
});

test("an unknown command exits with 2 and names the nearest", async () => {
  const { code, stderr } = await hubwire("strat");
  expect(stderr).toContain("start");
  expect(code).toBe(2);
});
