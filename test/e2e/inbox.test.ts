import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Gate } from "../support/deadline.ts";
import { closePayload, OPCODE } from "../support/frame-codec.ts";
import type { Script } from "../support/raw-backend.ts";
import { ofConnection, Stack } from "../support/stack.ts";

/** The inbox's bound and what happens to queued messages after a close. Source: PROTOCOL.md, "Message". */
setDefaultTimeout(60_000);

const numbered = (count: number, size = 0): string[] =>
  Array.from({ length: count }, (_, i) => `${i}`.padEnd(size, "."));

const bodies = (stack: Stack): string[] =>
  stack.backend.of("message", (r) => !r.target.includes("/cycle/")).map((r) => r.body.toString());

/** Answers the first message only once the gate is open. */
function firstHeld(gate: Gate, then: Script = (x) => x.reply(204)): Script {
  return async (exchange) => {
    if (exchange.request.target.includes("/cycle/")) return exchange.reply(200, [], exchange.request.body);
    await gate.opened;
    await then(exchange);
  };
}

describe("the inbox's bound", () => {
  test("ten times maxInboxMessages: nothing is lost, and the order holds", async () => {
    await using stack = await Stack.start({ config: { limits: { maxInboxMessages: 8 } } });
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate, (x) => x.reply(200, [], x.request.body));
    const { client } = await stack.connect();
    const messages = numbered(80);
    client.text(...messages);
    await stack.backend.next("message");
    await stack.cycle();
    expect(bodies(stack)).toEqual(["0"]);
    gate.open();
    for (const message of messages) expect(await client.nextText()).toBe(message);
    expect(bodies(stack)).toEqual(messages);
  });

  test("ten times maxInboxBytes: nothing is lost, and the order holds", async () => {
    await using stack = await Stack.start({ config: { limits: { maxInboxBytes: 1_000_000 } } });
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate);
    const { client } = await stack.connect();
    const messages = numbered(200, 50_000);
    client.text(...messages);
    await stack.backend.next("message");
    await stack.cycle();
    gate.open();
    for (let i = 1; i < messages.length; i++) await stack.backend.next("message", (r) => r.target.includes("/chat/"));
    expect(bodies(stack).map((body) => body.replace(/\.+$/, ""))).toEqual(numbered(200));
    expect(bodies(stack).every((body) => body.length === 50_000)).toBe(true);
  });

  test("sent message by message, it holds as well", async () => {
    await using stack = await Stack.start({ config: { limits: { maxInboxMessages: 4 } } });
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate);
    const { client } = await stack.connect();
    const messages = numbered(40);
    for (const message of messages) {
      client.text(message);
      await new Promise(setImmediate);
    }
    await stack.cycle();
    gate.open();
    for (const _message of messages) await stack.backend.next("message", (r) => r.target.includes("/chat/"));
    expect(bodies(stack)).toEqual(messages);
  });

  test("without progress for inboxPauseTimeoutMs: 1013 `inbox full`, then what was read is posted, then the disconnect", async () => {
    await using stack = await Stack.start({ config: { limits: { maxInboxMessages: 4, inboxPauseTimeoutMs: 500 } } });
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate);
    const { client, connectionId } = await stack.connect();
    client.text(...numbered(40));
    expect(await client.closed()).toEqual({ code: 1013, reason: "inbox full" });
    gate.open();
    const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1013");
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("inbox full");
    const posted = bodies(stack);
    expect(posted).toEqual(numbered(40).slice(0, posted.length));
    expect(posted.length).toBeGreaterThanOrEqual(4);
    expect(stack.backend.requests.at(-1)).toBe(disconnect);
  });

  test("reading stops at the bound: what TCP holds back is never taken", async () => {
    await using stack = await Stack.start({ config: { limits: { maxInboxMessages: 4, inboxPauseTimeoutMs: 1000 } } });
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate);
    const { client, connectionId } = await stack.connect();
    // 60 MB: far more than the bound, what the kernel holds and what one read brings.
    client.text(...numbered(200, 300_000));
    expect(await client.closed()).toEqual({ code: 1013, reason: "inbox full" });
    gate.open();
    await stack.backend.next("disconnect", ofConnection(connectionId));
    const posted = bodies(stack).map((body) => body.replace(/\.+$/, ""));
    expect(posted).toEqual(numbered(200).slice(0, posted.length));
    expect(posted.length).toBeGreaterThanOrEqual(4);
    expect(posted.length).toBeLessThan(100);
  });

  test("slow progress is progress: paused for longer than inboxPauseTimeoutMs in all, it stays open", async () => {
    await using stack = await Stack.start({ config: { limits: { maxInboxMessages: 2, inboxPauseTimeoutMs: 1500 } } });
    const started = Date.now();
    stack.backend.onMessage = async (exchange) => {
      // The answers take 25 x 120 ms, twice the pause's bound; one alone is far below it.
      await Bun.sleep(120);
      exchange.reply(200, [], exchange.request.body);
    };
    const { client } = await stack.connect();
    client.text(...numbered(25));
    for (const message of numbered(25)) expect(await client.nextText()).toBe(message);
    expect(Date.now() - started).toBeGreaterThan(1500);
  });
});

describe("after the connection has closed, for any reason", () => {
  const ways: readonly (readonly [string, (client: Awaited<ReturnType<Stack["open"]>>) => void, string])[] = [
    ["a close frame", (client) => client.close(4001, "bye"), "4001"],
    ["FIN without a close frame", (client) => client.halfClose(), "1006"],
    ["a reset", (client) => client.reset(), "1006"],
    ["invalid UTF-8", (client) => client.send({ opcode: OPCODE.text, payload: Buffer.from([0xff]) }), "1007"],
    ["an unmasked frame", (client) => client.send({ opcode: OPCODE.text, payload: "x", mask: false }), "1002"],
  ];
  test.each(ways)("(%s) queued messages are posted in order, then comes the disconnect", async (_what, leave, code) => {
    await using stack = await Stack.start();
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate);
    const { client, connectionId } = await stack.connect();
    client.text(...numbered(6));
    await stack.backend.next("message");
    leave(client);
    await stack.cycle();
    expect(bodies(stack)).toEqual(["0"]);
    gate.open();
    const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe(code);
    expect(bodies(stack)).toEqual(numbered(6));
    expect(stack.backend.requests.at(-1)).toBe(disconnect);
  });

  test("messages and the close frame in one segment: all are posted, then the disconnect", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.send(
      { opcode: OPCODE.text, payload: "a" },
      { opcode: OPCODE.text, payload: "b" },
      { opcode: OPCODE.close, payload: closePayload(1000) },
    );
    await stack.backend.next("disconnect");
    expect(stack.targets().map((target) => target.split("/").at(-1))).toEqual([
      "connect",
      "message",
      "message",
      "disconnect",
    ]);
    expect(bodies(stack)).toEqual(["a", "b"]);
  });

  test("the first that gets no answer ends it: the rest is discarded and logged with its count", async () => {
    await using stack = await Stack.start({ upstreams: [{ repeatOnStaleSocket: false }] });
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate, (x) => (x.request.body.toString() === "1" ? x.reset() : x.reply(204)));
    const { client, connectionId } = await stack.connect();
    client.text(...numbered(7));
    await stack.backend.next("message");
    client.close(1000);
    await client.closed();
    gate.open();
    const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1000");
    await stack.cycle();
    expect(bodies(stack)).toEqual(["0", "1"]);
    const lines = stack.gateway.logLines().filter((line) => JSON.stringify(line).includes(connectionId));
    expect(lines.filter((line) => Object.values(line).includes(5)).length).toBe(1);
  });

  test("a message that gets no answer on a live connection ends its queue too", async () => {
    await using stack = await Stack.start({ upstreams: [{ repeatOnStaleSocket: false }] });
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate, (x) => x.reset());
    const { client, connectionId } = await stack.connect();
    client.text(...numbered(4));
    await stack.backend.next("message");
    gate.open();
    expect((await client.closed()).code).toBe(1011);
    await stack.backend.next("disconnect", ofConnection(connectionId));
    stack.behave();
    await stack.cycle();
    const posted = bodies(stack);
    // The failure closes the connection; after that the queue is posted until one gets no answer.
    expect(posted).toEqual(numbered(4).slice(0, posted.length));
    expect(posted.length).toBeLessThanOrEqual(2);
  });

  test("for at most inboxDrainTimeoutMs: the rest is discarded and logged, and the disconnect comes", async () => {
    await using stack = await Stack.start({ config: { limits: { inboxDrainTimeoutMs: 600 } } });
    const gate = new Gate();
    stack.backend.onMessage = firstHeld(gate, async (exchange) => {
      await Bun.sleep(150);
      exchange.reply(204);
    });
    const { client, connectionId } = await stack.connect();
    client.text(...numbered(40));
    await stack.backend.next("message");
    client.close(1000);
    await client.closed();
    gate.open();
    await stack.backend.next("disconnect", ofConnection(connectionId));
    stack.behave();
    await stack.cycle();
    const posted = bodies(stack);
    expect(posted).toEqual(numbered(40).slice(0, posted.length));
    expect(posted.length).toBeLessThan(40);
    const lines = stack.gateway.logLines().filter((line) => JSON.stringify(line).includes(connectionId));
    expect(lines.filter((line) => Object.values(line).includes(40 - posted.length)).length).toBe(1);
  });
});
