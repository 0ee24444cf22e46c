import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Gate, until } from "../support/deadline.ts";
import { acceptAs } from "../support/raw-backend.ts";
import type { RawAnswer } from "../support/raw-websocket.ts";
import { jsonError, Stack } from "../support/stack.ts";

/** Places: a client that waits for the backend has one, and gives it back when it is refused. And the backend's own refusals. */
setDefaultTimeout(60_000);

function expectRefused(answer: RawAnswer, code: string, target: string): void {
  expect(answer.status).toBe(503);
  expect(jsonError(answer.body)).toMatchObject({ code, target });
}

/** Lets the backend answer connects only when the gate opens. */
function holdConnects(stack: Stack, reply = acceptAs("ada")): Gate {
  const gate = new Gate();
  stack.backend.onConnect = async (exchange) => {
    await gate.opened;
    await reply(exchange);
  };
  return gate;
}

describe("maxPendingUpgrades", () => {
  test("as many may wait, one more is 503, and every answer gives a place back", async () => {
    await using stack = await Stack.start({
      config: { limits: { maxPendingUpgrades: 3, maxPendingUpgradesPerAddress: 3 } },
    });
    const gate = holdConnects(stack);
    const waiting = [await stack.request(), await stack.request(), await stack.request()];
    for (const _client of waiting) await stack.backend.next("connect");
    const refused = await (await stack.request()).answer();
    expectRefused(refused, "pending_upgrade_limit", "maxPendingUpgrades");
    expect(refused.head.header("Retry-After")).toBe("1");
    gate.open();
    for (const client of waiting) await client.upgraded();
    await Promise.all([stack.open(), stack.open(), stack.open()]);
    expect(stack.backend.of("connect").length).toBe(6);
  });

  test("a client that leaves keeps its place, and its address's, until the backend has answered", async () => {
    await using stack = await Stack.start({ config: { limits: { maxPendingUpgrades: 1 } } });
    const gate = holdConnects(stack);
    const leaver = await stack.request();
    await stack.backend.next("connect");
    leaver.reset();
    expectRefused(await (await stack.request()).answer(), "pending_upgrade_limit", "maxPendingUpgrades");
    gate.open();
    await stack.backend.next("disconnect");
    await stack.open();
  });
});

describe("maxPendingUpgradesPerAddress", () => {
  const limits = { maxPendingUpgrades: 8 };
  const attacker = { localAddress: "127.0.0.7" };

  test("is a quarter of maxPendingUpgrades: an address that takes its share shuts nobody else out", async () => {
    await using stack = await Stack.start({ config: { limits } });
    const gate = holdConnects(stack);
    for (let i = 0; i < 2; i++) {
      const leaver = await stack.request(attacker);
      await stack.backend.next("connect");
      leaver.reset();
    }
    const refused = await (await stack.request(attacker)).answer();
    expect([refused.status, jsonError(refused.body).code]).toEqual([429, "pending_upgrade_rate"]);
    const other = await stack.request();
    await stack.backend.next("connect");
    gate.open();
    await other.upgraded();
    await stack.backend.next("disconnect");
    await stack.backend.next("disconnect");
    await stack.open(attacker);
  });

  test("clients that leave before their event is posted are given up, with their places, and no event follows", async () => {
    await using stack = await Stack.start({ config: { limits }, upstreams: [{ maxConcurrency: 1 }] });
    const gate = holdConnects(stack);
    const holder = await stack.request();
    await stack.backend.next("connect");
    // More than the address's share, one after the other.
    for (let i = 0; i < 6; i++) {
      const leaver = await stack.request(attacker);
      leaver.destroy();
      const isLogged = () => stack.gateway.logLines().filter(({ msg }) => String(msg).startsWith("client left"));
      await until(() => isLogged().length > i, "the line of the client that left");
      expect(isLogged().at(-1)).toMatchObject({ hub: "chat", clientAddress: "127.0.0.7" });
    }
    gate.open();
    await holder.upgraded();
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect"]);
  });
});

describe("maxConnections", () => {
  test("counts those who wait for the backend", async () => {
    await using stack = await Stack.start({ config: { limits: { maxConnections: 2 } } });
    await stack.connect();
    const gate = holdConnects(stack);
    const waiting = await stack.request();
    await stack.backend.next("connect");
    expectRefused(await (await stack.request()).answer(), "connection_limit", "maxConnections");
    gate.open();
    await waiting.upgraded();
    expectRefused(await (await stack.request()).answer(), "connection_limit", "maxConnections");
    expect(stack.backend.of("connect").length).toBe(2);
  });

  test.each([401, 503])("a backend's %d gives the place back", async (status) => {
    await using stack = await Stack.start({ config: { limits: { maxConnections: 1, maxPendingUpgrades: 1 } } });
    stack.backend.onConnect = (exchange) => exchange.reply(status);
    const seen: number[] = [];
    for (let turn = 0; turn < 5; turn++) seen.push((await (await stack.request()).answer()).status);
    expect(seen).toEqual(Array.from({ length: 5 }, () => (status === 401 ? 401 : 502)));
    expect(stack.backend.of("connect").length).toBe(5);
  });
});

describe("maxResponseBytes, for an answer that is passed on", () => {
  const config = { limits: { maxResponseBytes: 1000 } };

  test("of exactly as many is passed on, of one byte more the status alone, and nothing follows", async () => {
    await using stack = await Stack.start({ config });
    const body = "x".repeat(1000);
    const type = ["Content-Type: text/plain"];
    stack.backend.onConnect = (exchange) => exchange.reply(403, type, body);
    const passed = await (await stack.request()).answer();
    expect([passed.status, passed.body.toString("utf8")]).toEqual([403, body]);
    stack.backend.onConnect = (exchange) => exchange.reply(403, type, `${body}x`);
    const refused = await (await stack.request()).answer();
    expect([refused.status, refused.body.length]).toEqual([403, 0]);
    stack.behave();
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/connect"]);
  });

  test.each(["length", "chunks"])(
    "of a message (%s): exactly as many arrive, one byte more closes with 1011",
    async (how) => {
      await using stack = await Stack.start({ config });
      const { client } = await stack.connect();
      stack.backend.onMessage = (exchange) => {
        const bytes = "x".repeat(Number(exchange.request.body.toString("utf8")));
        if (how === "length") exchange.reply(200, [], bytes);
        else {
          const chunk = `${bytes.length.toString(16)}\r\n${bytes}\r\n0\r\n\r\n`;
          exchange.raw(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}`);
        }
      };
      client.text("1000");
      expect((await client.nextText()).length).toBe(1000);
      client.text("1001");
      expect(await client.closed()).toEqual({ code: 1011, reason: "upstream unavailable" });
    },
  );
});
