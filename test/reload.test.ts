import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS_TIMEOUT_MS, findFreePort } from "./support/command.ts";
import { CommandGateway } from "./support/command-gateway.ts";
import { KEYS } from "./support/gateway.ts";
import { RawBackend } from "./support/raw-backend.ts";
import { RawWebSocket, statusOf } from "./support/raw-websocket.ts";
import { secondsFromNow, signToken } from "./support/tokens.ts";

/** The configuration is loaded again on SIGHUP and when its file changes. What a reload does inside: test/e2e/reload.test.ts. */
setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const RELOADED = "configuration reloaded";
const REFUSED = "configuration refused: the one before goes on";

function towards(backend: RawBackend): { upstreams: readonly unknown[] } {
  return { upstreams: [{ urlTemplate: `${backend.url}/{hub}/api/{event}` }] };
}

/** Sends a message on an open connection, and returns the backend that it came to. */
async function asked(client: RawWebSocket, backends: Readonly<Record<string, RawBackend>>): Promise<string> {
  for (const [name, backend] of Object.entries(backends)) {
    backend.onMessage = (exchange) => exchange.reply(200, ["Content-Type: text/plain"], name);
  }
  client.text("who is there?");
  return await client.nextText();
}

describe("a new configuration is taken over and no connection is lost", () => {
  for (const [how, change] of [
    ["the file is written in place", (gateway, config) => gateway.write(config)],
    ["another file takes its name", (gateway, config) => gateway.replace(config)],
    [
      "SIGHUP comes",
      (gateway, config) => {
        gateway.write(config);
        gateway.kill("SIGHUP");
      },
    ],
  ] as readonly (readonly [string, (gateway: CommandGateway, config: Record<string, unknown>) => void])[]) {
    test(`when ${how}`, async () => {
      await using before = await RawBackend.start();
      await using after = await RawBackend.start();
      await using gateway = await CommandGateway.start({ config: { accessKeys: KEYS, ...towards(before) } });
      using client = await RawWebSocket.open({ port: gateway.port });
      expect(await asked(client, { before, after })).toBe("before");
      change(gateway, { accessKeys: KEYS, ...towards(after) });
      const line = await gateway.logged(RELOADED);
      expect(line).toMatchObject({
        level: 30,
        why: how === "SIGHUP comes" ? "SIGHUP" : "the file has changed",
        file: gateway.configFile,
      });
      expect(await asked(client, { before, after })).toBe("after");
    });
  }

  test("SIGHUP reads what has not changed again too: certificates may have", async () => {
    await using gateway = await CommandGateway.start({ config: {} });
    for (const nth of [1, 2, 3]) {
      gateway.kill("SIGHUP");
      expect(await gateway.logged(RELOADED, nth)).toMatchObject({ level: 30, why: "SIGHUP" });
    }
  });
});

describe("a configuration with faults is refused whole", () => {
  test("all are logged as one error without a value, the one before goes on, and the next good one is taken", async () => {
    await using before = await RawBackend.start();
    await using after = await RawBackend.start();
    await using gateway = await CommandGateway.start({ config: { accessKeys: KEYS, ...towards(before) } });
    using client = await RawWebSocket.open({ port: gateway.port });
    gateway.write({ accessKeys: { primary: "" }, ...towards(after), limits: { maxMesageBytes: "hush-hush" } });
    const line = await gateway.logged(REFUSED);
    expect(line).toMatchObject({ level: 50, why: "the file has changed", file: gateway.configFile });
    const faults = line["faults"] as readonly { path: string; message: string; where: string }[];
    expect(faults.map(({ path }) => path).sort()).toEqual(["accessKeys.primary", "limits.maxMesageBytes"]);
    expect(faults.find(({ path }) => path.startsWith("limits"))).toEqual({
      path: "limits.maxMesageBytes",
      message: "no such key; did you mean `maxMessageBytes`?",
      where: expect.stringMatching(/^line 1, column \d+$/),
    });
    expect(gateway.printed()).not.toContain("hush-hush");
    expect(await asked(client, { before, after })).toBe("before");

    gateway.write({ accessKeys: KEYS, ...towards(after) });
    await gateway.logged(RELOADED);
    expect(await asked(client, { before, after })).toBe("after");
    expect(gateway.logLines().filter(({ msg }) => msg === REFUSED).length).toBe(1);
  });

  test("a file that is half a file, and none at all", async () => {
    await using gateway = await CommandGateway.start({ config: {} });
    gateway.write('{ "listen": ');
    expect(await gateway.logged(REFUSED)).toMatchObject({ level: 50 });
    rmSync(gateway.configFile);
    gateway.kill("SIGHUP");
    const faults = [{ path: "", message: "the file does not exist", where: null }];
    expect(await gateway.logged(REFUSED, 2)).toMatchObject({ level: 50, why: "SIGHUP", faults });
  });
});

test("options that wait for the next start are named in a warning", async () => {
  await using gateway = await CommandGateway.start({ config: {} });
  gateway.write({ listen: { host: "127.0.0.2" }, dataDir: join(gateway.folder, "other"), anonymous: "deny" });
  const line = await gateway.logged(RELOADED);
  expect(line).toMatchObject({ level: 40, atNextStart: ["listen", "dataDir"] });
  // What could change has changed.
  using client = await RawWebSocket.request({ port: gateway.port });
  expect((await client.answer()).status).toBe(401);
});

test("flags and variables of the start stay over the file", async () => {
  await using flagged = await RawBackend.start();
  await using written = await RawBackend.start();
  await using gateway = await CommandGateway.start({
    config: { accessKeys: KEYS },
    flags: ["--upstreams", JSON.stringify(towards(flagged).upstreams)],
    env: { HUBWIRE_LIMITS_MAX_MESSAGE_BYTES: "100" },
  });
  using client = await RawWebSocket.open({ port: gateway.port });
  gateway.write({ accessKeys: KEYS, ...towards(written), limits: { maxMessageBytes: 10 } });
  expect(await gateway.logged(RELOADED)).toMatchObject({ level: 30 });
  expect(await asked(client, { flagged, written })).toBe("flagged");
  client.text("x".repeat(100));
  expect(await client.nextText()).toBe("flagged");
});

test("the key that was made for dataDir stays, even if its file changes", async () => {
  await using backend = await RawBackend.start();
  await using gateway = await CommandGateway.start({ config: towards(backend) });
  const keyFile = join(gateway.dataDir, "access-key");
  const key = readFileSync(keyFile, "utf8").trim();
  writeFileSync(keyFile, key.slice(0, 1));
  gateway.write({ ...towards(backend), anonymous: "deny" });
  await gateway.logged(RELOADED);
  const audience = `http://127.0.0.1:${gateway.port}/client/hubs/chat`;
  const pathWith = (signedBy: string) => {
    const token = signToken({ sub: "ann", aud: audience, exp: secondsFromNow(600) }, { key: signedBy });
    return `/client/hubs/chat?access_token=${token}`;
  };
  using client = await RawWebSocket.open({ port: gateway.port, path: pathWith(key) });
  client.close(1000, "");
  expect((await client.closed()).code).toBe(1000);
  using stranger = await RawWebSocket.request({ port: gateway.port, path: pathWith(key.slice(0, 1)) });
  expect(statusOf(await stranger.head())).toBe(401);
});

test("without a file SIGHUP reloads what flags and variables say, and no file that came later", async () => {
  await using backend = await RawBackend.start();
  const flags = ["--upstreams", JSON.stringify(towards(backend).upstreams)];
  await using gateway = await CommandGateway.start({ flags });
  // The name that is looked for at a start.
  gateway.write({ anonymous: "deny" });
  gateway.kill("SIGHUP");
  expect(await gateway.logged(RELOADED)).toMatchObject({ level: 30, file: null });
  using client = await RawWebSocket.open({ port: gateway.port });
  expect(await asked(client, { backend })).toBe("backend");
});

test("the example stays with its upstream and its key, which flags of the start carry", async () => {
  const env = { EXAMPLE_PORT: String(await findFreePort()) };
  await using gateway = await CommandGateway.start({ flags: ["--example", "chat"], env });
  await gateway.lines(/^Open http\S+ in two browser tabs\.$/m);
  gateway.kill("SIGHUP");
  expect(await gateway.logged(RELOADED)).toMatchObject({ level: 30 });
  // The example lets nobody in whose event is not signed with that key.
  using client = await RawWebSocket.open({ port: gateway.port, path: "/ws/client/hubs/chat?name=Ada" });
  expect(await client.nextText()).toContain("Welcome, Ada.");
});

describe("a changed file that leaves protections out", () => {
  const ORIGIN = "Origin: https://app.example";
  const EVIL = "Origin: https://evil.example";

  /** A file whose upstreams come first, so that a cut behind them loses all that protects. */
  const guarded = ({ url }: RawBackend) =>
    [
      `accessKeys: { primary: ${KEYS.primary}, secondary: ${KEYS.secondary} }`,
      "upstreams:",
      `  - urlTemplate: ${url}/{hub}/api/{event}`,
      "websocket:",
      "  pingAfterMs: 10000",
      "hubs:",
      "  admin:",
      "    anonymous: deny",
      "    allowedOrigins:",
      "      - https://app.example",
      "",
    ].join("\n");
  const behindUpstreams = (text: string) => text.slice(0, text.indexOf("websocket:"));

  const start = (backend: RawBackend, more: { readonly env?: Readonly<Record<string, string>> } = {}) =>
    CommandGateway.start({ config: guarded(backend), fileName: "hubwire.yaml", ...more });

  /** What the hub answers to an anonymous client, and to one of another origin with a token. */
  async function statuses({ port }: CommandGateway): Promise<readonly number[]> {
    const audience = `http://127.0.0.1:${port}/client/hubs/admin`;
    const token = signToken({ sub: "ann", aud: audience, exp: secondsFromNow(600) }, { key: KEYS.primary });
    const asked = [
      { path: "/client/hubs/admin", lines: [ORIGIN] },
      { path: `/client/hubs/admin?access_token=${token}`, lines: [EVIL] },
    ].map(async (request) => {
      using client = await RawWebSocket.request({ port, ...request });
      return statusOf(await client.head());
    });
    return await Promise.all(asked);
  }

  test("is refused whole, with what it would open, until it is whole again", async () => {
    await using backend = await RawBackend.start();
    await using gateway = await start(backend);
    const text = guarded(backend);
    expect(await statuses(gateway)).toEqual([401, 403]);
    gateway.write(behindUpstreams(text));
    const line = await gateway.logged(REFUSED);
    expect(line).toMatchObject({
      level: 50,
      why: "the file has changed",
      file: gateway.configFile,
      hint: expect.stringContaining("SIGHUP"),
      faults: [
        {
          path: "hubs.admin.anonymous",
          message: "is not given any more, which lets clients without a token through to the connect event",
          where: null,
        },
        {
          path: "hubs.admin.allowedOrigins",
          message: "is not given any more, which lets browsers of other origins in",
          where: null,
        },
      ],
    });
    expect(await statuses(gateway)).toEqual([401, 403]);
    gateway.write(text.replace("10000", "20000"));
    expect(await gateway.logged(RELOADED)).toMatchObject({ level: 30 });
    expect(await statuses(gateway)).toEqual([401, 403]);
  });

  test("is refused when it is empty, holds comments alone, loses all upstreams, or ends within a value", async () => {
    await using backend = await RawBackend.start();
    await using gateway = await start(backend);
    const text = guarded(backend);
    const all = ["accessKeys.primary", "upstreams", "hubs.admin.anonymous", "hubs.admin.allowedOrigins"];
    const cuts = [
      ["", all],
      ["# upstreams and hubs come here\n", all],
      [text.replace(/upstreams:\n.*\n/, ""), ["upstreams"]],
      [text.slice(0, -"ple\n".length), ["hubs.admin.allowedOrigins[0]"]],
    ] as const;
    for (const [position, [cut, paths]] of cuts.entries()) {
      gateway.write(cut);
      const { faults } = await gateway.logged(REFUSED, position + 1);
      expect((faults as readonly { path: string }[]).map(({ path }) => path)).toEqual([...paths]);
      expect(await statuses(gateway)).toEqual([401, 403]);
    }
  });

  test("is taken when what it opens is written out", async () => {
    await using backend = await RawBackend.start();
    await using gateway = await start(backend);
    gateway.write(`${behindUpstreams(guarded(backend))}hubs: { admin: { anonymous: allow, allowedOrigins: ["*"] } }\n`);
    expect(await gateway.logged(RELOADED)).toMatchObject({ level: 30 });
    expect(await statuses(gateway)).toEqual([101, 101]);
  });

  test("is taken on SIGHUP, and the log names what has opened; the next file is compared with it", async () => {
    await using backend = await RawBackend.start();
    await using gateway = await start(backend);
    const cut = behindUpstreams(guarded(backend));
    gateway.write(cut);
    await gateway.logged(REFUSED);
    gateway.kill("SIGHUP");
    const line = await gateway.logged(RELOADED);
    expect(line).toMatchObject({ level: 40, why: "SIGHUP" });
    const opened = line["opened"] as readonly { path: string }[];
    expect(opened.map(({ path }) => path)).toEqual(["hubs.admin.anonymous", "hubs.admin.allowedOrigins"]);
    expect(await statuses(gateway)).toEqual([101, 101]);
    gateway.write(`${cut}# nothing is lost now\n`);
    expect(await gateway.logged(RELOADED, 2)).toMatchObject({ level: 30, why: "the file has changed" });
  });

  test("is taken where variables of the start give what the file leaves out", async () => {
    await using backend = await RawBackend.start();
    const hubs = { admin: { anonymous: "deny", allowedOrigins: ["https://app.example"] } };
    await using gateway = await start(backend, { env: { HUBWIRE_HUBS: JSON.stringify(hubs) } });
    gateway.write(behindUpstreams(guarded(backend)));
    expect(await gateway.logged(RELOADED)).toMatchObject({ level: 30 });
    expect(await statuses(gateway)).toEqual([401, 403]);
  });

  test("changes nothing while it is gone, on SIGHUP neither, and is taken when it is back", async () => {
    await using backend = await RawBackend.start();
    await using gateway = await start(backend);
    rmSync(gateway.configFile);
    gateway.kill("SIGHUP");
    await gateway.logged(REFUSED);
    expect(await statuses(gateway)).toEqual([401, 403]);
    gateway.write(`${guarded(backend)}# back again\n`);
    expect(await gateway.logged(RELOADED)).toMatchObject({ level: 30 });
  });
});
