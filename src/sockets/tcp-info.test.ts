import { afterEach, describe, expect, test } from "bun:test";
import { OPCODE } from "../../test/support/frame-codec.ts";
import { SocketStage } from "../../test/support/socket-stage.ts";
import { TcpInfo } from "./tcp-info.ts";

let stage: SocketStage;

afterEach(() => stage[Symbol.asyncDispose]());

/** Reads until a condition holds; the kernel takes a moment to hear of what the other side did. */
async function until<Value>(read: () => Value, holds: (value: Value) => boolean): Promise<Value> {
  for (;;) {
    const value = read();
    if (holds(value)) return value;
    await new Promise(setImmediate);
  }
}

describe.skipIf(process.platform !== "linux")("the traffic of a client", () => {
  test("is what it has sent, parts of a message that is not whole included", async () => {
    stage = new SocketStage();
    const { client, socket } = await stage.connect();
    const before = socket.readTraffic()?.received ?? Number.NaN;
    expect(before).toBeGreaterThan(100);
    // 14 bytes of the frame's head, and a tenth of what it announces.
    client.send({ opcode: OPCODE.binary, payload: Buffer.alloc(10_000), declaredBytes: 100_000 });
    const after = await until(
      () => socket.readTraffic()?.received ?? 0,
      (received) => received >= before + 10_014,
    );
    expect(after).toBe(before + 10_014);
  });

  test("is what it has taken; what it does not take is unsent", async () => {
    stage = new SocketStage(16_777_216);
    const { client, socket } = await stage.connect();
    client.pauseReading();
    for (let i = 0; i < 100; i++) socket.send("x".repeat(65_536));
    const stuck = await until(
      () => socket.readTraffic(),
      (traffic) => (traffic?.unsent ?? 0) > 0,
    );
    expect(stuck?.delivered).toBeLessThan(6_000_000);
    expect((stuck?.unsent ?? 0) + socket.waitingBytes).toBeGreaterThan(0);
    client.resumeReading();
    const done = await until(
      () => socket.readTraffic(),
      (traffic) => (traffic?.delivered ?? 0) > 6_553_600,
    );
    expect(done?.unsent).toBe(0);
  });

  test("is each client's own, whichever is asked first", async () => {
    stage = new SocketStage();
    const peers = [await stage.connect(), await stage.connect(), await stage.connect()];
    const before = peers.map(({ socket }) => socket.readTraffic()?.received ?? 0);
    for (const [i, { client }] of peers.entries()) client.text("x".repeat(10 * (i + 1)));
    for (const [i, { socket }] of peers.entries()) {
      const expected = (before[i] ?? 0) + 6 + 10 * (i + 1);
      await until(
        () => socket.readTraffic()?.received,
        (received) => received === expected,
      );
    }
  });
});

test("of a connection that was reset, but whose end has not been told yet, nothing is known", async () => {
  stage = new SocketStage();
  const { client, socket } = await stage.connect();
  // On the loopback the kernel has it at once; the event loop hears of it in a later turn.
  client.reset();
  expect(socket.readTraffic()).toBeNull();
});

test("where the system does not tell, nothing is known", async () => {
  stage = new SocketStage();
  stage.tcpInfo = null;
  const { socket } = await stage.connect();
  expect(socket.readTraffic()).toBeNull();
});

test("an address that no connection comes from is not found", async () => {
  stage = new SocketStage();
  await stage.connect();
  const tcpInfo = TcpInfo.open();
  const localPort = stage.server.port ?? 0;
  expect(tcpInfo?.find({}, { address: "127.0.0.1", port: 1, localPort }) ?? null).toBeNull();
  expect(tcpInfo?.find({}, { address: "no address", port: 1, localPort }) ?? null).toBeNull();
});
