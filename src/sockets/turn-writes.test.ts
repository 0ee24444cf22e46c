import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { OPCODE } from "../../test/support/frame-codec.ts";
import { MAX_OUTBOX_BYTES, MESSAGE_BYTES, SocketStage } from "../../test/support/socket-stage.ts";
import type { Frame } from "../protocol/client-protocol.ts";
import { TurnWrites } from "./turn-writes.ts";

let stage: SocketStage;

beforeEach(() => {
  stage = new SocketStage();
});
afterEach(async () => {
  await stage[Symbol.asyncDispose]();
});

test("what is sent soon is written at the end of the turn, in the order of the calls, to whichever sockets", async () => {
  const [one, two] = [await stage.connect(), await stage.connect()];
  for (let round = 0; round < 3; round++) {
    expect(one.socket.sendSoon(`text ${round}`)).toBe("sent");
    expect(two.socket.sendSoon(Uint8Array.of(round))).toBe("sent");
    expect(one.socket.sendSoon("")).toBe("sent");
  }
  for (let round = 0; round < 3; round++) {
    expect(await one.client.nextText()).toBe(`text ${round}`);
    expect(await one.client.nextText()).toBe("");
    expect(await two.client.frame()).toMatchObject({ opcode: OPCODE.binary, payload: Buffer.from([round]) });
  }
});

test("nothing that is sent, published or closed after it overtakes what is sent soon", async () => {
  const peer = await stage.connect();
  peer.socket.subscribe("hub");
  const expected: string[] = [];
  for (let round = 0; round < 20; round++) {
    const texts = [`soon ${round}`, `now ${round}`, `soon again ${round}`, `published ${round}`, `last ${round}`];
    peer.socket.sendSoon(texts[0] ?? "");
    peer.socket.send(texts[1] ?? "");
    peer.socket.sendSoon(texts[2] ?? "");
    stage.publish("hub", texts[3] ?? "");
    peer.socket.sendSoon(texts[4] ?? "");
    expected.push(...texts);
  }
  peer.socket.close(1000, "bye");
  peer.socket.sendSoon("too late");
  expect(await peer.rest()).toEqual({ byteCount: 0, texts: expected, close: "1000 bye" });
});

test("to send soon to a socket that has ended, or ends in the same turn, does nothing, and reaches the others", async () => {
  const [gone, going, other] = [await stage.connect(), await stage.connect(), await stage.connect()];
  gone.socket.close(1000, "bye");
  expect(gone.socket.sendSoon("too late")).toBe("sent");
  going.socket.sendSoon("first");
  other.socket.sendSoon("second");
  going.socket.terminate();
  going.socket.sendSoon("too late");
  other.socket.sendSoon("third");
  expect([await other.client.nextText(), await other.client.nextText()]).toEqual(["second", "third"]);
  expect(await gone.rest()).toEqual({ byteCount: 0, texts: [], close: "1000 bye" });
});

test("not much is kept back: what waits for a client is counted in the same turn, and its outbox is full at its bound", async () => {
  const peer = await stage.connect();
  peer.client.pauseReading();
  let sentBytes = 0;
  while (sentBytes < 4 * MAX_OUTBOX_BYTES && peer.socket.sendSoon(new Uint8Array(MESSAGE_BYTES)) === "sent") {
    sentBytes += MESSAGE_BYTES;
  }
  expect(sentBytes).toBeLessThan(4 * MAX_OUTBOX_BYTES);
  expect(peer.socket.waitingBytes).toBeGreaterThan(MAX_OUTBOX_BYTES - 3 * MESSAGE_BYTES);
  expect(peer.socket.waitingBytes).toBeLessThan(MAX_OUTBOX_BYTES + 3 * MESSAGE_BYTES);
  const small = () => peer.socket.sendSoon("x".repeat(1000));
  let results = new Set([small()]);
  for (let count = 0; count < 300; count++) results = new Set([...results, small()]);
  expect(results.has("full")).toBe(true);
  peer.client.resumeReading();
  peer.socket.close(1000, "bye");
  const { byteCount } = await peer.rest();
  expect(byteCount).toBe(sentBytes);
});

test("however small an outbox is, every frame that counts as sent arrives", async () => {
  await using small = new SocketStage(4096);
  const peer = await small.connect();
  peer.client.pauseReading();
  let sent = 0;
  for (let isFull = false; !isFull; ) {
    for (let count = 0; count < 60 && !isFull; count++) {
      isFull = peer.socket.sendSoon(Buffer.from(`${sent} `.padEnd(1000, "x"))) === "full";
      if (!isFull) sent++;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  peer.client.resumeReading();
  for (let number = 0; number < sent; number++)
    expect((await peer.client.frame()).payload.toString()).toStartWith(`${number} `);
}, 60_000);

describe("what is kept", () => {
  const NO_BOUND = Number.POSITIVE_INFINITY;

  function recording() {
    const written: Frame[] = [];
    return { written, sink: { write: (frame: Frame) => void written.push(frame) } };
  }

  test("is written by nobody before the turn's end, and then in a row, once", async () => {
    const [writes, one, two] = [new TurnWrites(), recording(), recording()];
    for (let turn = 1; turn <= 3; turn++) {
      expect(writes.add(one.sink, `a${turn}`, NO_BOUND)).toBe(true);
      expect(writes.add(two.sink, `b${turn}`, NO_BOUND)).toBe(true);
      await Promise.resolve();
      expect([one.written.length, two.written.length]).toEqual([turn - 1, turn - 1]);
      await new Promise((resolve) => setImmediate(resolve));
      expect([one.written.at(-1), two.written.at(-1)]).toEqual([`a${turn}`, `b${turn}`]);
    }
    expect([one.written.length, two.written.length]).toEqual([3, 3]);
  });

  test("is bounded, in bytes as UTF-8 has them at most, for everybody and by the one who adds", async () => {
    const [writes, { written, sink }] = [new TurnWrites(), recording()];
    expect(writes.add(sink, new Uint8Array(985), 1000)).toBe(false);
    expect(writes.add(sink, new Uint8Array(984), 1000)).toBe(true);
    expect(writes.add(sink, "", 1000)).toBe(false);
    expect(writes.add(sink, "", NO_BOUND)).toBe(true);
    expect(writes.add(sink, "\u20ac".repeat(21_502), NO_BOUND)).toBe(false);
    expect(writes.add(sink, "\u20ac".repeat(21_000), NO_BOUND)).toBe(true);
    expect(written).toEqual([]);
    writes.flush();
    expect(written.length).toBe(3);
    expect(writes.add(sink, new Uint8Array(65_520), NO_BOUND)).toBe(true);
    writes.flush();
    expect(written.length).toBe(4);
  });

  test("reaches the others where one of them throws", async () => {
    const script = `
      import { TurnWrites } from ${JSON.stringify(join(import.meta.dir, "turn-writes.ts"))};
      process.on("uncaughtException", ({ message }) => console.log(message));
      const writes = new TurnWrites();
      const sink = { write(frame) { if (frame === "b") throw new Error("a bug"); console.log(frame); } };
      for (const frame of ["a", "b", "c", "d"]) writes.add(sink, frame, 1000);
    `;
    const process = Bun.spawn([globalThis.process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
    expect(await new Response(process.stdout).text()).toBe("a\na bug\nc\nd\n");
  });
});
