import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { within } from "../support/deadline.ts";
import { encodeFrame, OPCODE } from "../support/frame-codec.ts";
import type { RawWebSocket } from "../support/raw-websocket.ts";
import { ofConnection, Stack } from "../support/stack.ts";

/** What clients can do without a token: send and not read, send slowly, send control frames. Source: PROTOCOL.md, "Pings". */
setDefaultTimeout(90_000);

const MESSAGE = Buffer.alloc(65_536);

/** Sends messages, or pings, until the gateway has ended the client, and reads nothing. */
async function floodUnread(client: RawWebSocket, frame: Buffer): Promise<void> {
  client.pauseReading();
  const { tcp } = client;
  while (!tcp.destroyed && tcp.writable) {
    if (tcp.write(frame)) await new Promise(setImmediate);
    else await new Promise<void>((resolve) => void tcp.once("drain", resolve).once("close", resolve));
  }
}

async function endOf(stack: Stack, connectionId: string): Promise<string> {
  const [disconnect] = stack.backend.of("disconnect", ofConnection(connectionId));
  const event = disconnect ?? (await stack.backend.next("disconnect", ofConnection(connectionId)));
  return `${event.header("X-Hubwire-Close-Code")} ${decodeURIComponent(event.header("X-Hubwire-Close-Reason") ?? "")}`;
}

describe("a client that reads nothing", () => {
  test("of its echoes is ended after outboxStallTimeoutMs with 1013", async () => {
    const limits = { outboxStallTimeoutMs: 1500, maxOutboxBytes: 1_073_741_824 };
    await using stack = await Stack.start({ config: { limits } });
    const { client, connectionId } = await stack.connect();
    // The kernel takes several megabytes before anything waits in the gateway; after this the client is silent.
    client.pauseReading();
    for (let i = 0; i < 160; i++) client.binary(MESSAGE);
    expect(await endOf(stack, connectionId)).toBe("1013 slow consumer");
  });

  test("does not keep others out: past 80 % of maxBufferedBytes it is ended, and new clients get in", async () => {
    const limits = { maxBufferedBytes: 20_000_000, controlFramesPerSecond: 0 };
    await using stack = await Stack.start({ config: { limits } });
    const flooders = [await stack.connect(), await stack.connect()];
    const frames = Array.from({ length: 500 }, () => encodeFrame({ opcode: OPCODE.ping, payload: Buffer.alloc(125) }));
    const floods = flooders.map(({ client }) => floodUnread(client, Buffer.concat(frames)));
    for (const { connectionId } of flooders) expect(await endOf(stack, connectionId)).toBe("1013 slow consumer");
    const other = await stack.open();
    other.text("hello");
    expect(await other.nextText()).toBe("hello");
    for (const { client } of flooders) client.destroy();
    await within(Promise.all(floods), "the floods' end");
  });
});

describe("control frames", () => {
  const burst = (count: number, opcode: number): Buffer =>
    Buffer.concat(Array.from({ length: count }, () => encodeFrame({ opcode, payload: "" })));

  test.each([
    ["pings", OPCODE.ping],
    ["pongs that answer no ping", OPCODE.pong],
  ])("200 %s at once are taken; many more close with 1008, and the disconnect says so", async (_what, opcode) => {
    await using stack = await Stack.start({ config: { limits: { messagesPerSecond: 10 } } });
    const { client, connectionId } = await stack.connect();
    client.write(burst(200, opcode));
    client.text("still here");
    for (;;) {
      const frame = await client.frame();
      if (frame.opcode === OPCODE.pong) continue;
      expect(frame.payload.toString()).toBe("still here");
      break;
    }
    client.write(burst(1000, opcode));
    expect(await endOf(stack, connectionId)).toBe("1008 rate limited");
    let frame = await client.frame();
    while (frame.opcode === OPCODE.pong) frame = await client.frame();
    expect([frame.opcode, frame.payload.readUInt16BE(), frame.payload.subarray(2).toString()]).toEqual([
      OPCODE.close,
      1008,
      "rate limited",
    ]);
  });
});

describe("a live client that cannot answer a ping yet", () => {
  const websocket = { pingAfterMs: 1000, pongTimeoutMs: 1000 };

  test.skipIf(process.platform !== "linux")(
    "uploads one message for four times as long as that would take, and is heard",
    async () => {
      await using stack = await Stack.start({ config: { websocket } });
      const { client, connectionId } = await stack.connect();
      const payload = Buffer.alloc(80_000, "u");
      const bytes = encodeFrame({ opcode: OPCODE.binary, payload });
      // 8 s at 10,000 bytes per second: the upload has a pace, so it takes its time.
      for (let at = 0; at < bytes.length; at += 1000) {
        client.write(bytes.subarray(at, at + 1000));
        await Bun.sleep(100);
      }
      for (;;) {
        const frame = await client.frame();
        if (frame.opcode === OPCODE.ping) continue;
        expect(frame.payload.equals(payload)).toBeTrue();
        break;
      }
      expect(stack.backend.of("disconnect", ofConnection(connectionId))).toHaveLength(0);
    },
  );

  test("reads what waits in front of the ping for longer than pongTimeoutMs, and stays", async () => {
    const limits = { maxOutboxBytes: 1_073_741_824 };
    await using stack = await Stack.start({ config: { websocket, limits } });
    const { client, connectionId } = await stack.connect();
    const waitingBytes = (): number => stack.gateway.connections()[0]?.socket?.waitingBytes ?? 0;
    const messageCount = 300;
    client.pauseReading();
    for (let i = 0; i < messageCount; i++) client.binary(MESSAGE);
    while (stack.backend.of("message").length < messageCount) await stack.backend.next("message");
    expect(waitingBytes()).toBeGreaterThan(8_000_000);
    // 2 MB in a second, so 4 s at least until nothing waits in the gateway.
    client.tcp.on("data", (piece: Buffer) => {
      client.pauseReading();
      setTimeout(() => client.resumeReading(), piece.length / 2000);
    });
    client.resumeReading();
    // Not until the client has all: what is in its own receive buffer has been delivered, and the time of the pong has begun.
    while (waitingBytes() > 0) await Bun.sleep(50);
    expect(stack.backend.of("disconnect", ofConnection(connectionId))).toHaveLength(0);
  });
});
