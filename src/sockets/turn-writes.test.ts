import { afterEach, beforeEach, expect, test } from "bun:test";
import { OPCODE } from "../../test/support/frame-codec.ts";
import { MAX_OUTBOX_BYTES, MESSAGE_BYTES, SocketStage } from "../../test/support/socket-stage.ts";

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
