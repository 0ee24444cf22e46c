import { Database } from "bun:sqlite";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "../support/deadline.ts";
import { startTestGateway } from "../support/gateway.ts";
import { acceptAs, RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { connectionIdOf, ofConnection, Stack } from "../support/stack.ts";

/** A backend that guards a hub compares its name: it must never see it in another spelling, even if a client wrote one. */
setDefaultTimeout(60_000);

const USER = "X-ASRS-User-Id: alice";

/** Every way in which the hub `admin` is written in what the backend was sent: in each request line and each header. */
function spellingsIn({ requests }: RawBackend): string[] {
  const texts = requests.flatMap(({ head }) => head.bytes.toString("latin1").match(/admin/gi) ?? []);
  return [...new Set(texts)];
}

/** One life with a message and a refused connect, so that each kind of event and of log line names the hub. */
async function liveAndRefuse(stack: Stack, path: string): Promise<void> {
  const { client, connectionId } = await stack.connect({ path });
  client.text("x");
  await client.nextText();
  client.close(1000);
  await stack.backend.next("disconnect", ofConnection(connectionId));
  stack.backend.onConnect = (exchange) => exchange.reply(403);
  await (await stack.request({ path })).answer();
  await stack.backend.next("connect");
  stack.behave();
}

const PATHS = [
  "/ws/client/hubs/ADMIN",
  "/client/hubs/admin/",
  "/ws/client?hub=AdMiN",
  "/client?hubs=ADmin",
  "/ws/client/hubs/%41DMI%4e",
];

describe("the upstream and the log see one spelling of a hub", () => {
  const entry = (more: object) => (url: string) => [{ urlTemplate: `${url}/{hub}/api/{event}`, ...more }];
  const both = (url: string) => [
    { eventPattern: "message", urlTemplate: `${url}/{hub}/api/{event}` },
    { hubPattern: "AdmiN,other", urlTemplate: `${url}/{hub}/api/{event}` },
  ];
  const rows = [
    ["admin", "lower case, where the configuration does not name it", {}, entry({})],
    ["aDMIN", "that of hubs", { hubs: { aDMIN: {} } }, entry({})],
    ["ADmin", "that of hubPattern, where the client's is another", {}, entry({ hubPattern: ["x", "ADmin"] })],
    ["AdmiN", "that of another entry's hubPattern", {}, both],
  ] as const;
  test.each(rows)("%s: %s", async (spelling, _why, config, upstreams) => {
    await using stack = await Stack.start({ config, upstreams });
    stack.behave();
    for (const path of PATHS) await liveAndRefuse(stack, path);
    const requests = stack.backend.requests.map(({ target }) => target);
    expect(new Set(requests)).toEqual(
      new Set(["connect", "message", "disconnect"].map((event) => `/${spelling}/api/${event}`)),
    );
    for (const request of stack.backend.requests) expect(request.header("X-ASRS-Hub")).toBe(spelling);
    // The query that the client sent is passed on as it is, and is no name of the hub.
    const lines = () => stack.gateway.logLines().filter(({ hub }) => hub !== undefined);
    // Equal lines are summed up, and so are lines of the same hub in other spellings.
    const count = () => lines().reduce((sum, line) => sum + Number(line["count"] ?? 1), 0);
    await until(() => count() >= 3 * PATHS.length, "the lines about the hub");
    expect(new Set(lines().map(({ hub }) => hub))).toEqual(new Set([spelling]));
  });

  test("_default always, however client and configuration write it", async () => {
    await using stack = await Stack.start({ config: { hubs: { _DEFAULT: {} } } });
    stack.behave();
    for (const path of ["/ws/client", "/ws/client/hubs/_Default", "/ws/client?hub=_DEFAULT"]) {
      const { connect } = await stack.connect({ path });
      expect([connect.target, connect.header("X-ASRS-Hub")]).toEqual(["/_default/api/connect", "_default"]);
    }
  });
});

test("what a backend pushes reaches the clients of every spelling, as before", async () => {
  await using stack = await Stack.start({ config: { hubs: { Admin: {} } } });
  stack.backend.onConnect = (exchange) => exchange.reply(200, [USER, "X-ASRS-Connection-Group: g"]);
  for (const path of PATHS) await stack.connect({ path });
  for (const hub of ["admin", "ADMIN", "Admin"]) {
    expect(stack.gateway.groupMembers(hub, "g")).toHaveLength(PATHS.length);
  }
});

test("a reload that writes the hub in another way holds for the next event of open connections", async () => {
  await using stack = await Stack.start({ config: { hubs: { Admin: {} } } });
  stack.behave();
  const { client, connectionId } = await stack.connect({ path: "/ws/client/hubs/aDmin" });
  const say = async () => {
    client.text("x");
    await client.nextText();
  };
  await say();
  stack.gateway.reload({ hubs: { ADMIN: {} } });
  await say();
  stack.gateway.reload({});
  client.close(1000);
  await stack.backend.next("disconnect", ofConnection(connectionId));
  expect(stack.targets()).toEqual([
    "/Admin/api/connect",
    "/Admin/api/message",
    "/ADMIN/api/message",
    "/Admin/api/disconnect",
  ]);
  expect(stack.backend.requests.map((request) => request.header("X-ASRS-Hub"))).toEqual([
    "Admin",
    "Admin",
    "ADMIN",
    "Admin",
  ]);
});

test("a disconnect from the journal is written by the configuration in force, not in the spelling of an earlier run", async () => {
  await using backend = await RawBackend.start();
  backend.onConnect = acceptAs("alice");
  const dataDir = mkdtempSync(join(tmpdir(), "hubwire-spelling-"));
  const start = (config: object) =>
    startTestGateway({ dataDir, upstreams: [{ urlTemplate: `${backend.url}/{hub}/api/{event}` }], ...config });
  try {
    const before = await start({ hubs: { Admin: {} }, shutdown: { spreadMs: 0, drainTimeoutMs: 200 } });
    backend.onDisconnect = (exchange) => exchange.reply(503);
    const client = await RawWebSocket.open({ port: before.port, path: "/ws/client/hubs/admin" });
    const connectionId = connectionIdOf(await backend.next("connect"));
    client.close(1000);
    expect((await backend.next("disconnect")).header("X-ASRS-Hub")).toBe("Admin");
    await before.stop();
    // Earlier versions kept what the client wrote.
    using journal = new Database(join(dataDir, "journal.sqlite"));
    expect(journal.query("UPDATE connections SET hub = 'aDmIn' WHERE hub = 'admin'").run().changes).toBe(1);
    journal.close();
    const isLate = backend.requests.length;
    const after = await start({ hubs: { ADMIN: {} }, disconnect: { retryForSeconds: 0 } });
    const given = await after.logged("disconnect event given up: see hubwire dead-letters");
    expect([given["hub"], given["connectionId"]]).toEqual(["ADMIN", connectionId]);
    await after.stop();
    expect(new Set(backend.requests.slice(isLate).map((request) => request.header("X-ASRS-Hub")))).toEqual(
      new Set(["ADMIN"]),
    );
    expect(spellingsIn(backend).sort()).toEqual(["ADMIN", "Admin"]);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});
