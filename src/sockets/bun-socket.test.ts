import { afterEach, beforeEach, describe, expect, jest, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { OPCODE } from "../../test/support/frame-codec.ts";
import { BACKLOG_BYTES, MAX_OUTBOX_BYTES, type SocketPeer, SocketStage } from "../../test/support/socket-stage.ts";

let stage: SocketStage;

beforeEach(() => {
  stage = new SocketStage();
});
afterEach(async () => {
  await stage[Symbol.asyncDispose]();
});

async function connect(lines: readonly string[] = []): Promise<SocketPeer> {
  return await stage.connect(lines);
}

describe("sending", () => {
  test("a string is a text frame and bytes are a binary one, in the order of the calls", async () => {
    const { socket, client } = await connect();
    expect(socket.send("grüße")).toBe("sent");
    expect(socket.send(Uint8Array.of(0, 255, 128))).toBe("sent");
    expect(socket.send("")).toBe("sent");
    expect(socket.send(new Uint8Array())).toBe("sent");
    expect(await client.frame()).toMatchObject({ opcode: OPCODE.text, payload: Buffer.from("grüße") });
    expect(await client.frame()).toMatchObject({ opcode: OPCODE.binary, payload: Buffer.from([0, 255, 128]) });
    expect(await client.frame()).toMatchObject({ opcode: OPCODE.text, payload: Buffer.alloc(0) });
    expect(await client.frame()).toMatchObject({ opcode: OPCODE.binary, payload: Buffer.alloc(0) });
  });

  test("a frame goes out compressed only where compression is on and the client has offered it", async () => {
    const offer = ["Sec-WebSocket-Extensions: permessage-deflate"];
    const plain = await connect(offer);
    plain.socket.send("x".repeat(1000));
    expect((await plain.client.frame()).rsv).toBe(0);
    stage.options = { ...stage.options, compression: true };
    const deflated = await connect(offer);
    deflated.socket.send("x".repeat(1000));
    const frame = await deflated.client.frame();
    expect(frame.rsv).toBe(4);
    expect(frame.payload.length).toBeLessThan(100);
  });

  test("what the client does not read waits and is counted, and the outbox is full at its bound", async () => {
    const peer = await connect();
    expect(peer.socket.waitingBytes).toBe(0);
    peer.fill();
    const waiting = peer.socket.waitingBytes;
    expect(waiting).toBeGreaterThan(0);
    expect(waiting).toBeLessThan(BACKLOG_BYTES);
    expect(peer.socket.send("x".repeat(MAX_OUTBOX_BYTES - waiting + 1))).toBe("full");
    expect(peer.socket.waitingBytes).toBe(waiting);
    expect(peer.socket.send("x".repeat(MAX_OUTBOX_BYTES - waiting))).toBe("sent");
    // The kernel goes on taking a little, so that it needs more than that to be full.
    while (peer.socket.send(new Uint8Array(1000)) === "sent");
    expect(peer.socket.waitingBytes).toBeGreaterThan(MAX_OUTBOX_BYTES - 1000);
    expect(peer.socket.waitingBytes).toBeLessThan(MAX_OUTBOX_BYTES + 1000);
  });

  test("the bound counts bytes, not characters", async () => {
    const peer = await connect();
    peer.fill();
    const room = MAX_OUTBOX_BYTES - peer.socket.waitingBytes;
    expect(peer.socket.send("ü".repeat(Math.floor(room / 2) + 1))).toBe("full");
    expect(peer.socket.send("ü".repeat(Math.floor(room / 2)))).toBe("sent");
  });

  test("everything that waited arrives once the client reads, and then nothing waits", async () => {
    const peer = await connect();
    peer.fill();
    peer.socket.send("last");
    peer.client.resumeReading();
    let byteCount = 0;
    for (;;) {
      const { opcode, payload } = await peer.client.frame();
      if (opcode === OPCODE.text) break;
      byteCount += payload.length;
    }
    expect(byteCount).toBe(BACKLOG_BYTES);
    expect(peer.socket.waitingBytes).toBe(0);
  });
});

describe("topics", () => {
  test("a socket gets what is published to its topics until it unsubscribes; to repeat either changes nothing", async () => {
    const peer = await connect();
    peer.socket.subscribe("red");
    peer.socket.subscribe("red");
    stage.publish("red", "one");
    stage.publish("blue", "for others");
    peer.socket.unsubscribe("red");
    peer.socket.unsubscribe("red");
    peer.socket.unsubscribe("never joined");
    stage.publish("red", "for others");
    peer.socket.subscribe("red");
    stage.publish("red", "two");
    peer.socket.send("end");
    expect([await peer.client.nextText(), await peer.client.nextText(), await peer.client.nextText()]).toEqual([
      "one",
      "two",
      "end",
    ]);
  });

  test("what is published and sent in one turn arrives in that order, small and large, however the socket is excluded", async () => {
    const peer = await connect();
    const other = await connect();
    // One topic only: while excluded the socket is subscribed to nothing at all.
    for (const { socket } of [peer, other]) socket.subscribe("hub");
    const large = "x".repeat(20_000);
    const expected: string[] = [];
    for (let round = 0; round < 50; round++) {
      const sent = [`p${round}`, `s${round}`, `l${round}${large}`, `q${round}`];
      stage.publish("hub", sent[0] ?? "");
      peer.socket.send(sent[1] ?? "");
      stage.publish("hub", sent[2] ?? "");
      peer.socket.unsubscribe("hub");
      stage.publish("hub", `not for peer ${round}`);
      peer.socket.subscribe("hub");
      stage.publish("hub", sent[3] ?? "");
      expected.push(...sent);
    }
    for (const text of expected) expect(await peer.client.nextText()).toBe(text);
    for (let round = 0; round < 50; round++) {
      expect(await other.client.nextText()).toBe(`p${round}`);
      expect(await other.client.nextText()).toBe(`l${round}${large}`);
      expect(await other.client.nextText()).toBe(`not for peer ${round}`);
      expect(await other.client.nextText()).toBe(`q${round}`);
    }
  });
});

describe("closing without a backlog", () => {
  test("sends the close frame at once and reports the end before it returns", async () => {
    const { socket, client, ended } = await connect();
    socket.close(1000, "grüße");
    expect(Bun.peek.status(ended)).toBe("fulfilled");
    expect(await ended).toMatchObject({ code: 1000, reason: "grüße" });
    expect(await client.closed()).toEqual({ code: 1000, reason: "grüße" });
    expect(await client.ended()).toBe("fin");
  });

  test("what was published and sent in the same turn arrives before the close frame, and nothing after it", async () => {
    const peer = await connect();
    peer.socket.subscribe("hub");
    stage.publish("hub", "published");
    peer.socket.send("sent");
    peer.socket.close(1000, "bye");
    stage.publish("hub", "too late");
    peer.socket.send("too late");
    peer.socket.subscribe("hub");
    stage.publish("hub", "too late");
    expect(await peer.rest()).toEqual({ byteCount: 0, texts: ["published", "sent"], close: "1000 bye" });
    expect(await peer.client.ended()).toBe("fin");
  });

  test("after the end every method does nothing", async () => {
    const { socket, ended, client } = await connect();
    socket.close(1000, "bye");
    socket.close(1011, "again");
    socket.terminate();
    socket.pause();
    socket.resume();
    socket.ping();
    socket.subscribe("hub");
    socket.unsubscribe("hub");
    socket.drained();
    expect(socket.send("x")).toBe("sent");
    expect(socket.waitingBytes).toBe(0);
    expect(await ended).toMatchObject({ code: 1000 });
    expect(await client.closed()).toEqual({ code: 1000, reason: "bye" });
  });
});

describe("closing with a backlog", () => {
  test("a client that reads gets everything that waited, and then the close frame", async () => {
    const peer = await connect();
    peer.fill();
    peer.socket.send("last");
    peer.socket.close(1000, "bye");
    expect(Bun.peek.status(peer.ended)).toBe("pending");
    peer.client.resumeReading();
    expect(await peer.rest()).toEqual({ byteCount: BACKLOG_BYTES, texts: ["last"], close: "1000 bye" });
    expect(await within(peer.ended, "the end")).toMatchObject({ code: 1000, reason: "bye" });
    expect(await peer.client.ended()).toBe("fin");
  });

  test("a client that does not read is cut after 2 s, without a close frame", async () => {
    const peer = await connect();
    peer.fill();
    const startedMs = performance.now();
    peer.socket.close(1000, "bye");
    const { code, atMs } = await within(peer.ended, "the cut");
    expect(code).toBe(1006);
    expect(atMs - startedMs).toBeGreaterThan(1900);
    expect(atMs - startedMs).toBeLessThan(3000);
    peer.client.resumeReading();
    await peer.client.ended();
  });

  test("nothing is sent after it: neither frames, nor pings, nor what is published to topics it was or will be in", async () => {
    const peer = await connect();
    peer.socket.subscribe("hub");
    peer.socket.subscribe("red");
    peer.fill();
    peer.socket.close(1000, "bye");
    expect(peer.socket.send("too late")).toBe("sent");
    peer.socket.ping();
    stage.publish("hub", "too late");
    stage.publish("red", "too late");
    // As deliver does it with a connection that is excluded.
    peer.socket.unsubscribe("hub");
    peer.socket.subscribe("hub");
    peer.socket.subscribe("blue");
    stage.publish("hub", "too late");
    stage.publish("blue", "too late");
    peer.client.resumeReading();
    expect(await peer.rest()).toEqual({ byteCount: BACKLOG_BYTES, texts: [], close: "1000 bye" });
  });

  test("what was published before it still arrives", async () => {
    const peer = await connect();
    peer.socket.subscribe("hub");
    peer.fill();
    stage.publish("hub", "small");
    stage.publish("hub", "x".repeat(20_000));
    peer.socket.close(1000, "bye");
    peer.client.resumeReading();
    const { texts } = await peer.rest();
    expect(texts.map((text) => text.slice(0, 5))).toEqual(["small", "xxxxx"]);
  });

  test("a second close does nothing: the first code stays, and the cut is not put off", async () => {
    jest.useFakeTimers();
    try {
      const peer = await connect();
      peer.fill();
      peer.socket.close(1000, "first");
      jest.advanceTimersByTime(1999);
      peer.socket.close(1011, "second");
      expect(Bun.peek.status(peer.ended)).toBe("pending");
      jest.advanceTimersByTime(1);
      expect(Bun.peek.status(peer.ended)).toBe("fulfilled");
      peer.socket.close(1011, "third");
      expect(jest.getTimerCount()).toBe(0);
    } finally {
      jest.useRealTimers();
    }
  });

  test("once it has ended no timer is left: neither by the backlog's end, nor by the client's leaving", async () => {
    jest.useFakeTimers();
    try {
      const left = await connect();
      left.fill();
      left.socket.close(1000, "bye");
      expect(jest.getTimerCount()).toBe(1);
      left.client.reset();
      await left.ended;
      expect(jest.getTimerCount()).toBe(0);
      const read = await connect();
      read.fill();
      read.socket.close(1000, "bye");
      read.client.resumeReading();
      await read.ended;
      expect(jest.getTimerCount()).toBe(0);
    } finally {
      jest.useRealTimers();
    }
  });

  test("a connection whose reading is paused ends all the same", async () => {
    const peer = await connect();
    peer.socket.pause();
    peer.fill();
    peer.socket.close(1013, "inbox full");
    peer.client.resumeReading();
    expect((await peer.rest()).close).toBe("1013 inbox full");
    expect(await within(peer.ended, "the end")).toMatchObject({ code: 1013, reason: "inbox full" });
  });
});

describe("terminating", () => {
  test("cuts at once and without a close frame, even if messages wait", async () => {
    const peer = await connect();
    peer.fill();
    peer.socket.terminate();
    expect(Bun.peek.status(peer.ended)).toBe("fulfilled");
    expect(await peer.ended).toMatchObject({ code: 1006, reason: "" });
  });

  test("cuts a connection that is closing", async () => {
    const peer = await connect();
    peer.fill();
    peer.socket.close(1000, "bye");
    peer.socket.terminate();
    expect(Bun.peek.status(peer.ended)).toBe("fulfilled");
  });
});

test("a ping has a payload, so that a dropped one can be told", async () => {
  const { socket, client } = await connect();
  socket.ping();
  expect(await client.frame()).toMatchObject({ opcode: OPCODE.ping, payload: Buffer.from("hubwire") });
});
