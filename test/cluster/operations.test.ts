import { expect, setDefaultTimeout } from "bun:test";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, callNode } from "../support/cluster.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { audienceOf, RestClient, restToken } from "../support/rest-client.ts";

const { afterAll, beforeAll, describe, test } = needs("nats-server");

/**
 * Every operation of the REST API from every node to every node, the answer being all that the caller waits for.
 * Source: PROTOCOL.md, "REST API" and "Several nodes".
 */
setDefaultTimeout(60_000);

const NODES = 3;
const HUB = "/ws/api/hubs/chat";
const PAIRS = Array.from({ length: NODES * NODES }, (_empty, n) => [Math.floor(n / NODES), n % NODES] as const);

let backend: LedgerBackend;
let cluster: Cluster;
let userCount = 0;

beforeAll(async () => {
  backend = await LedgerBackend.start({
    respond: ({ event, header }) => {
      if (event !== "connect") return orderly(204);
      const asked = new URLSearchParams(header("x-asrs-client-query"));
      const lines = [`X-ASRS-User-Id: ${asked.get("user")}`];
      if (asked.has("group")) lines.push(`X-ASRS-Connection-Group: ${asked.get("group")}`);
      // Its own id, as its first message.
      return orderly(200, [...lines, "Content-Type: text/plain"], header("x-asrs-connection-id"));
    },
  });
  cluster = await Cluster.start({ nodeCount: NODES, urlTemplate: backend.urlTemplate });
});
afterAll(async () => {
  expect(cluster.faults()).toEqual([]);
  await cluster[Symbol.asyncDispose]();
  await backend.stop();
});

/** A client of one node, with a user of its own. */
interface Member extends Disposable {
  readonly user: string;
  readonly id: string;
  readonly socket: RawWebSocket;
}

async function join(nodeIndex: number, options: { user?: string; group?: string; hub?: string } = {}): Promise<Member> {
  const { user = `user-${++userCount}`, group, hub = "chat" } = options;
  const query = `user=${user}${group === undefined ? "" : `&group=${group}`}`;
  const path = `/ws/client/hubs/${hub}?${query}`;
  const socket = await RawWebSocket.open({ port: cluster.node(nodeIndex).port, path });
  const id = await socket.nextText();
  return { user, id, socket, [Symbol.dispose]: () => socket.destroy() };
}

function call(nodeIndex: number, method: string, target: string, body?: string | Uint8Array) {
  const type = typeof body === "string" ? "text/plain" : "application/octet-stream";
  return callNode(cluster.node(nodeIndex).port, { method, target, ...(body === undefined ? {} : { type, body }) });
}

async function status(nodeIndex: number, method: string, target: string, body?: string): Promise<number> {
  return (await call(nodeIndex, method, target, body)).status;
}

describe.each(PAIRS)("from node %i to node %i", (from, to) => {
  test("a message reaches hub, group, user and connection, as text and as bytes, in the caller's order", async () => {
    const group = `group-${from}-${to}`;
    using member = await join(to, { group });
    const targets = [
      "messages",
      `groups/${group}/messages`,
      `users/${member.user}/messages`,
      `connections/${member.id}/messages`,
    ];
    for (const [index, target] of targets.entries()) {
      expect(await status(from, "POST", `${HUB}/${target}`, `text ${index}`)).toBe(202);
      const bytes = Uint8Array.of(index, 0, 255);
      expect((await call(from, "POST", `${HUB}/${target}`, bytes)).status).toBe(202);
      expect(await member.socket.nextText()).toBe(`text ${index}`);
      expect(await member.socket.nextMessage()).toEqual({ type: "binary", payload: Buffer.from(bytes) });
    }
  });

  test("sends in one segment are answered in turn, each with a token not seen before", async () => {
    using member = await join(to);
    const { port } = cluster.node(from);
    const path = `${HUB}/connections/${member.id}/messages`;
    using caller = await RestClient.dial(port);
    const texts = ["1", "2", "3", "4", "5"];
    const requests = texts.map((text) => {
      const token = restToken(audienceOf(port, path), { jti: `${from}${to}${text}` });
      const lines = [`Host: 127.0.0.1:${port}`, `Authorization: Bearer ${token}`, "Content-Type: text/plain"];
      return [`POST ${path} HTTP/1.1`, ...lines, "Content-Length: 1", "", text].join("\r\n");
    });
    caller.write(requests.join(""));
    for (const text of texts) {
      expect((await caller.answer("POST")).status).toBe(202);
      expect(await member.socket.nextText()).toBe(text);
    }
  });

  test("who is excluded gets nothing, and the others do", async () => {
    const group = `without-${from}-${to}`;
    using one = await join(to, { group });
    using two = await join(to, { group });
    expect(await status(from, "POST", `${HUB}/groups/${group}/messages?excluded=${one.id}`, "for two")).toBe(202);
    expect(await status(from, "POST", `${HUB}/groups/${group}/messages`, "for both")).toBe(202);
    expect(await one.socket.nextText()).toBe("for both");
    expect([await two.socket.nextText(), await two.socket.nextText()]).toEqual(["for two", "for both"]);
  });

  test("a connection joins and leaves a group before the answer comes", async () => {
    const group = `joined-${from}-${to}`;
    using member = await join(to);
    const path = `${HUB}/groups/${group}/connections/${member.id}`;
    expect(await status(from, "PUT", path)).toBe(200);
    expect(await status((from + 1) % NODES, "POST", `${HUB}/groups/${group}/messages`, "inside")).toBe(202);
    expect(await member.socket.nextText()).toBe("inside");
    expect(await status(from, "HEAD", `${HUB}/groups/${group}`)).toBe(200);
    expect(await status(from, "DELETE", path)).toBe(200);
    expect(await status((from + 1) % NODES, "HEAD", `${HUB}/groups/${group}`)).toBe(404);
    expect(await status(from, "POST", `${HUB}/groups/${group}/messages`, "outside")).toBe(202);
    expect(await status(from, "POST", `${HUB}/connections/${member.id}/messages`, "last")).toBe(202);
    expect(await member.socket.nextText()).toBe("last");
  });

  test("a user joins and leaves groups with all connections, on any node", async () => {
    const group = `users-${from}-${to}`;
    using here = await join(to);
    using there = await join((to + 1) % NODES, { user: here.user });
    const path = `${HUB}/users/${here.user}/groups/${group}`;
    expect(await status(from, "GET", path)).toBe(404);
    expect(await status(from, "PUT", path)).toBe(202);
    expect(await status((from + 2) % NODES, "POST", `${HUB}/groups/${group}/messages`, "both")).toBe(202);
    expect([await here.socket.nextText(), await there.socket.nextText()]).toEqual(["both", "both"]);
    expect(await status(from, "GET", path)).toBe(200);
    expect(await status(from, "DELETE", path)).toBe(202);
    expect(await status(to, "HEAD", path)).toBe(404);
    expect(await status(from, "PUT", `${HUB}/groups/${group}/users/${here.user}`)).toBe(202);
    expect(await status(from, "DELETE", `${HUB}/users/${here.user}/groups`)).toBe(200);
    expect(await status(to, "HEAD", `${HUB}/groups/${group}`)).toBe(404);
  });

  test("a membership with a ttl covers connections that the user opens later on another node, and ends on time", async () => {
    const group = `ttl-${from}-${to}`;
    const user = `later-${from}-${to}`;
    const path = `${HUB}/users/${user}/groups/${group}`;
    expect(await status(from, "PUT", `${path}?ttl=60`)).toBe(202);
    using member = await join(to, { user });
    expect(await status(from, "GET", path)).toBe(200);
    expect(await status(from, "POST", `${HUB}/groups/${group}/messages`, "by the rule")).toBe(202);
    expect(await member.socket.nextText()).toBe("by the rule");
    expect(await status(to, "PUT", `${path}?ttl=1`)).toBe(202);
    while ((await status(from, "GET", path)) === 200);
    expect(await status(from, "HEAD", `${HUB}/groups/${group}`)).toBe(404);
    expect(await status(from, "HEAD", `${HUB}/users/${user}`)).toBe(200);
  });

  test("a rule that was ended covers nothing that the user opens later", async () => {
    const group = `ended-${from}-${to}`;
    const user = `never-${from}-${to}`;
    const path = `${HUB}/users/${user}/groups/${group}`;
    expect(await status(from, "PUT", `${path}?ttl=60`)).toBe(202);
    expect(await status(to, "DELETE", path)).toBe(202);
    using _member = await join((from + 1) % NODES, { user });
    expect(await status(from, "GET", path)).toBe(404);
    expect(await status(from, "GET", `${HUB}/groups/${group}`)).toBe(404);
  });

  test("who exists is known as soon as the client is in, and who has gone soon after", async () => {
    const group = `exists-${from}-${to}`;
    using member = await join(to, { group });
    const paths = [`connections/${member.id}`, `users/${member.user}`, `groups/${group}`];
    for (const path of paths) expect(await status(from, "HEAD", `${HUB}/${path}`)).toBe(200);
    for (const path of paths) expect(await status(from, "HEAD", `/ws/api/hubs/news/${path}`)).toBe(404);
    for (const path of ["connections/x", "users/x", "groups/x"]) {
      expect(await status(from, "GET", `${HUB}/${path}`)).toBe(404);
    }
    member.socket.destroy();
    for (const path of paths) while ((await status(from, "HEAD", `${HUB}/${path}`)) === 200);
  });

  test("a connection is closed with the caller's reason, and its disconnect says so", async () => {
    using member = await join(to);
    expect(await status(from, "DELETE", `${HUB}/connections/${member.id}?reason=go%20away`)).toBe(202);
    expect(await member.socket.closed()).toEqual({ code: 1000, reason: "go away" });
    await backend.ledger.until(() => backend.ledger.accounts.get(member.id)?.disconnects === 1, "the disconnect");
    expect(backend.ledger.accounts.get(member.id)?.closeReason).toBe("go away");
    expect(await status(from, "DELETE", `${HUB}/connections/${member.id}`)).toBe(202);
    expect(await status(from, "PUT", `${HUB}/groups/g/connections/${member.id}`)).toBe(404);
  });
});

test("a message as long as one may be reaches the other nodes, though NATS carries less", async () => {
  using member = await join(1);
  const body = "ä".repeat(524_288);
  expect(await status(0, "POST", `${HUB}/users/${member.user}/messages`, body)).toBe(202);
  expect(await status(0, "POST", `${HUB}/users/${member.user}/messages`, "behind it")).toBe(202);
  expect(await member.socket.nextText()).toBe(body);
  expect(await member.socket.nextText()).toBe("behind it");
});

test("a connection's id names its node, so that ids of one node begin alike and those of two do not", async () => {
  const members = await Promise.all([join(0), join(0), join(1)]);
  const [one, two, other] = members.map(({ id }) => id.slice(0, 8));
  for (const { id } of members) expect(id).toMatch(/^[A-Za-z0-9_-]{30}$/);
  expect(one).toBe(two ?? "");
  expect(one).not.toBe(other ?? "");
  for (const member of members) member[Symbol.dispose]();
});

test("10,000 messages of one caller through one node reach a client of another in their order", async () => {
  using member = await join(2);
  const targets = [`users/${member.user}`, `connections/${member.id}`];
  using caller = await RestClient.dial(cluster.node(0).port);
  for (let index = 0; index < 10_000; index++) {
    const target = `${HUB}/${targets[index % 2]}/messages`;
    const { status: answered } = await caller.call({ method: "POST", target, type: "text/plain", body: String(index) });
    expect(answered).toBe(202);
  }
  for (let index = 0; index < 10_000; index++) expect(await member.socket.nextText()).toBe(String(index));
});
