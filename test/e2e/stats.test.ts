import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adminSocketPath } from "../../src/admin/admin-socket.ts";
import { until } from "../support/deadline.ts";
import { RestStage } from "../support/rest-stage.ts";

/** `GET /stats` on the control socket: numbers that grow with what happens, and what the process is doing now. */
setDefaultTimeout(60_000);

/** As the socket answers it. */
interface Stats {
  readonly now: {
    readonly connections: number;
    readonly pendingUpgrades: number;
    readonly waitingDisconnects: number;
    readonly journalQueue: number;
    readonly upstreams: readonly { readonly entry: string; readonly calls: number; readonly isBreakerOpen: boolean }[];
  };
  readonly sinceStart: Readonly<Record<string, number>> & {
    readonly calls: Readonly<Record<string, Readonly<Record<string, number>>>>;
    readonly connectionsClosed: Readonly<Record<string, number>>;
    readonly connectionsRefused: Readonly<Record<string, number>>;
    readonly eventsUndelivered: Readonly<Record<string, number>>;
    readonly notices: Readonly<Record<string, number>>;
  };
}

/** A gateway whose clients of the hub `closed` need a token, with a data folder that is known. */
async function start() {
  const dataDir = mkdtempSync(join(tmpdir(), "hubwire-stats-"));
  const stage = await RestStage.start({ config: { dataDir, hubs: { closed: { anonymous: "deny" } } } });
  return {
    stage,
    read: async () => {
      const answer = await fetch("http://hubwire/stats", { unix: adminSocketPath(dataDir) });
      expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/json;charset=utf-8"]);
      return (await answer.json()) as Stats;
    },
    [Symbol.asyncDispose]: async () => {
      await stage.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

test("clients, their messages and their ends are counted", async () => {
  await using gateway = await start();
  const { stage, read } = gateway;
  const { client: one } = await stage.member();
  const { client: other } = await stage.member();
  one.text("grüß dich");
  await one.nextText();
  other.binary(new Uint8Array(5));
  await other.nextMessage();
  expect((await read()).now).toMatchObject({ connections: 2, pendingUpgrades: 0, waitingDisconnects: 0 });
  await (await stage.stack.request({ path: "/ws/client/hubs/closed" })).answer();
  one.close(1000);
  await until(async () => (await read()).sinceStart.calls["disconnect"]?.["2xx"] === 1, "the disconnect event");
  const { now, sinceStart } = await read();
  expect(now).toMatchObject({ connections: 1, upstreams: [{ calls: 0, isBreakerOpen: false }] });
  expect(now.upstreams[0]?.entry).toStartWith("upstreams[0] http://127.0.0.1:");
  // The reply to a text is a text, of which each character counts as one.
  const bytes = { messageBytesReceived: 11 + 5, messageBytesSent: 9 + 5 };
  expect(sinceStart).toMatchObject({ messagesReceived: 2, messagesSent: 2, ...bytes });
  expect(sinceStart.calls).toMatchObject({ connect: { "2xx": 2 }, message: { "2xx": 2 }, disconnect: { "2xx": 1 } });
  expect(sinceStart.connectionsClosed).toEqual({ client: 1 });
  expect(sinceStart.connectionsRefused).toEqual({ token_required: 1 });
  expect(sinceStart.notices).toEqual({ "connection-opened": 2, "connection-closed": 1, "connection-refused": 1 });
});

test("a message for a group counts once for each client that gets it, without those who are excluded", async () => {
  await using gateway = await start();
  const { stage, read } = gateway;
  const members = [];
  for (let i = 0; i < 3; i++) members.push(await stage.member({ groups: ["red"] }));
  await stage.member();
  const excluded = members[0]?.connectionId ?? "";
  await stage.send("send to group", "chat", { group: "red" }, "hello", `excluded=${excluded}`);
  for (const { client } of members.slice(1)) expect(await client.nextText()).toBe("hello");
  expect((await read()).sinceStart).toMatchObject({ messagesSent: 2, messageBytesSent: 10 });
});

test("what a backend does not get is counted, and why the client was closed", async () => {
  await using gateway = await start();
  const { stage, read } = gateway;
  stage.stack.backend.onMessage = (exchange) => exchange.reset();
  const { client } = await stage.member();
  client.text("lost");
  expect(await client.closed()).toMatchObject({ code: 1011 });
  await until(async () => (await read()).sinceStart.calls["disconnect"]?.["2xx"] === 1, "the disconnect event");
  const { sinceStart } = await read();
  expect(sinceStart.calls["message"]).toMatchObject({ "2xx": 0, unknown: 1 });
  expect(sinceStart.eventsUndelivered).toEqual({ connect: 0, message: 1, disconnect: 0 });
  expect(sinceStart.connectionsClosed).toEqual({ "upstream-unavailable": 1 });
});
