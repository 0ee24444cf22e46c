import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ClientOptions } from "../support/raw-websocket.ts";
import { jsonError, ofConnection, Stack } from "../support/stack.ts";

/** Rates: an allowance holds one second's worth and fills evenly, so exactly that much passes at once. */
setDefaultTimeout(60_000);

describe("messages and bytes of one connection", () => {
  const rows: readonly (readonly [string, Readonly<Record<string, number>>, readonly string[], string])[] = [
    ["messagesPerSecond", { messagesPerSecond: 1 }, ["a"], "b"],
    ["messagesPerSecond", { messagesPerSecond: 3 }, ["a", "b", "c"], "d"],
    ["messagesPerSecond", { messagesPerSecond: 1 }, [""], ""],
    ["bytesPerSecond", { bytesPerSecond: 1000 }, ["x".repeat(1000)], "y".repeat(1000)],
    ["bytesPerSecond", { bytesPerSecond: 1000 }, ["x".repeat(500), "y".repeat(500)], "z".repeat(500)],
    ["bytesPerSecond, which counts no characters", { bytesPerSecond: 1000 }, ["ä".repeat(500)], "ä".repeat(500)],
    ["both", { messagesPerSecond: 100, bytesPerSecond: 1000 }, ["x".repeat(1000)], "y".repeat(1000)],
  ];
  test.each(rows)(
    "%s: what is within is posted, what comes on top closes with 1008: %j",
    async (_what, limits, ...sent) => {
      const [within, more] = sent;
      await using stack = await Stack.start({ config: { limits } });
      stack.backend.onMessage = (exchange) => exchange.reply(204);
      const { client, connectionId } = await stack.connect();
      client.text(...within, more);
      expect(await client.closed()).toEqual({ code: 1008, reason: "rate limited" });
      await client.ended();
      const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
      expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1008");
      expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("rate limited");
      const bodies = stack.backend.of("message", ofConnection(connectionId)).map(({ body }) => body.toString("utf8"));
      expect(bodies).toEqual([...within]);
    },
  );

  test.each([
    ["messagesPerSecond", { messagesPerSecond: 3 }, ["a", "b", "c"]],
    ["bytesPerSecond", { bytesPerSecond: 1000 }, ["x".repeat(1000)]],
  ])("%s: exactly as much keeps the connection", async (_what, limits, messages) => {
    await using stack = await Stack.start({ config: { limits } });
    const { client, connectionId } = await stack.connect();
    client.text(...messages);
    for (const message of messages) expect(await client.nextText()).toBe(message);
    client.close(1000);
    expect((await client.closed()).code).toBe(1000);
    const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1000");
  });

  test("a message that is longer than a whole second's bytes is never taken", async () => {
    await using stack = await Stack.start({ config: { limits: { bytesPerSecond: 1000 } } });
    const { client, connectionId } = await stack.connect();
    client.text("x".repeat(1001));
    expect(await client.closed()).toEqual({ code: 1008, reason: "rate limited" });
    await stack.backend.next("disconnect", ofConnection(connectionId));
    expect(stack.backend.of("message")).toEqual([]);
  });

  test("each connection has its own allowance", async () => {
    await using stack = await Stack.start({ config: { limits: { messagesPerSecond: 1 } } });
    const [one, other] = [await stack.open(), await stack.open()];
    one.text("one");
    other.text("other");
    expect([await one.nextText(), await other.nextText()]).toEqual(["one", "other"]);
  });
});

describe("connectsPerSecondPerAddress", () => {
  /** Statuses of handshakes one after the other, up to the first 429, at most 100. */
  async function knock(stack: Stack, options: (turn: number) => Omit<ClientOptions, "port">): Promise<number[]> {
    const statuses: number[] = [];
    while (statuses.at(-1) !== 429 && statuses.length < 100) {
      const answer = await (await stack.request(options(statuses.length))).answer();
      statuses.push(answer.status);
      if (answer.status !== 429) continue;
      expect(jsonError(answer.body)).toMatchObject({ code: "connect_rate", target: "connectsPerSecondPerAddress" });
      expect(answer.head.header("Retry-After")).toBe("1");
    }
    return statuses;
  }

  test.each([1, 2, 5])("%d at once are let in, then comes 429, and the backend hears of none refused", async (rate) => {
    await using stack = await Stack.start({ config: { limits: { connectsPerSecondPerAddress: rate } } });
    const statuses = await knock(stack, () => ({ localAddress: "127.0.0.7" }));
    expect(statuses.slice(0, rate)).toEqual(Array.from({ length: rate }, () => 101));
    expect(statuses.at(-1)).toBe(429);
    expect((await knock(stack, () => ({ localAddress: "127.0.0.8" }))).slice(0, rate)).toEqual(statuses.slice(0, rate));
    const admitted = stack.backend.of("connect").length;
    const late = await (await stack.request({ localAddress: "127.0.0.9" })).answer();
    expect(late.status).toBe(101);
    expect(stack.backend.of("connect").length).toBe(admitted + 1);
  });

  test("is the client's address behind trusted proxies, and the peer's where a client only says so", async () => {
    const config = { trustedProxies: ["127.0.0.2", "10.0.0.0/8"], limits: { connectsPerSecondPerAddress: 2 } };
    await using stack = await Stack.start({ config });
    const through = (chain: string) => ({ localAddress: "127.0.0.2", lines: [`X-Forwarded-For: ${chain}`] });
    const first = await knock(stack, () => through("1.2.3.4"));
    expect([first.slice(0, 2), first.at(-1)]).toEqual([[101, 101], 429]);
    // The same client, behind a second proxy, with an invention of its own each time, is the same address.
    expect((await knock(stack, (turn) => through(`6.6.6.${turn}, 1.2.3.4, 10.1.1.1`))).at(-1)).toBe(429);
    // Another client of the same proxies is another address.
    expect((await knock(stack, () => through("1.2.3.5, 10.1.1.1"))).slice(0, 2)).toEqual([101, 101]);
    const untrusted = await knock(stack, (turn) => ({ ...through(`9.9.9.${turn}`), localAddress: "127.0.0.3" }));
    expect([untrusted.slice(0, 2), untrusted.at(-1)]).toEqual([[101, 101], 429]);
  });

  test("0 is no limit", async () => {
    await using stack = await Stack.start({ config: { limits: { connectsPerSecondPerAddress: 0 } } });
    await Promise.all(Array.from({ length: 50 }, () => stack.open()));
    expect(stack.backend.of("connect").length).toBe(50);
  });
});
