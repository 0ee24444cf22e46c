import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Gate } from "../support/deadline.ts";
import { OPCODE } from "../support/frame-codec.ts";
import { acceptAs } from "../support/raw-backend.ts";
import type { RawAnswer } from "../support/raw-websocket.ts";
import { type Action, type Names, target } from "../support/rest-operations.ts";
import { expectDone, expectError, type Member, RestStage } from "../support/rest-stage.ts";
import { jsonError, ofConnection } from "../support/stack.ts";

/**
 * Clients that do not read what they are sent: PROTOCOL.md, "The end" says how they end, the configuration's `maxOutboxBytes`
 * and `maxBufferedBytes` say when. The kernel takes a few megabytes before anything waits in the gateway.
 */
setDefaultTimeout(90_000);

const MESSAGE_BYTES = 65_536;
/** Far beyond what kernel and outbox can hold together. */
const MOST_MESSAGES = 1000;

/** A message of a fixed length that begins with its number. */
const message = (number: number): Buffer => Buffer.alloc(MESSAGE_BYTES, `${number} `.padEnd(8, "-"));

/** The number of a message, after a check that not a byte of it is missing. */
function numberOf(payload: Buffer): number {
  const number = Number.parseInt(payload.subarray(0, 8).toString("latin1"), 10);
  expect(payload.equals(message(number))).toBeTrue();
  return number;
}

function trySend(stage: RestStage, action: Action, names: Names, number: number): Promise<RawAnswer> {
  const request = { method: "POST", target: target(action, "chat", names), type: "application/octet-stream" };
  return stage.call({ ...request, body: message(number) });
}

async function send(stage: RestStage, action: Action, names: Names, number: number): Promise<void> {
  expectDone(await trySend(stage, action, names, number), 202);
}

const hasLeft = (stage: RestStage, member: Member): boolean =>
  stage.stack.backend.of("disconnect", ofConnection(member.connectionId)).length > 0;

/** Reads on to the end: the numbers of the messages that were there, and the close frame's code, 1006 without one. */
async function readToEnd(member: Member): Promise<{ numbers: number[]; code: number }> {
  member.client.resumeReading();
  const numbers: number[] = [];
  for (;;) {
    const frame = await member.client.frame().catch(() => undefined);
    if (frame === undefined) return { numbers, code: 1006 };
    if (frame.opcode === OPCODE.close) return { numbers, code: frame.payload.readUInt16BE() };
    if (frame.opcode === OPCODE.binary) numbers.push(numberOf(frame.payload));
  }
}

/** Asks for an upgrade, leaves again and returns the status; a refusal has the JSON form. */
async function knock(stage: RestStage): Promise<number> {
  const client = await stage.stack.request({ path: "/ws/client/hubs/door" });
  const answer = await client.answer();
  if (answer.status !== 101) expectError(answer, answer.status);
  client.destroy();
  return answer.status;
}

async function expectSlowConsumer(stage: RestStage, member: Member): Promise<void> {
  const disconnect = await stage.stack.backend.next("disconnect", ofConnection(member.connectionId));
  expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1013");
  expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("slow consumer");
}

describe("a client that stops reading while others get the same", () => {
  const cases: readonly (readonly [Action, Names])[] = [
    ["broadcast", {}],
    ["send to group", { group: "g" }],
    ["send to user", { user: "ada" }],
  ];
  test.each(cases)("is cut past maxOutboxBytes; the others get all, in order: %s", async (action, names) => {
    await using stage = await RestStage.start({ config: { limits: { maxOutboxBytes: 4 * MESSAGE_BYTES } } });
    const options = { user: "ada", groups: ["g"] };
    const slow = await stage.member(options);
    const fast = [await stage.member(options), await stage.member(options)];
    slow.client.pauseReading();
    let sent = 0;
    const readers = fast.map(({ client }) => {
      const numbers: number[] = [];
      return { client, numbers };
    });
    while (!hasLeft(stage, slow) && sent < MOST_MESSAGES) {
      await send(stage, action, names, sent++);
      // The fast ones have read each message before the next is sent: they are never behind, and never wait for the slow.
      for (const { client, numbers } of readers) numbers.push(numberOf((await client.nextMessage()).payload));
    }
    expect(sent).toBeLessThan(MOST_MESSAGES);
    await expectSlowConsumer(stage, slow);
    for (let more = 0; more < 20; more++) await send(stage, action, names, sent++);
    for (const { client, numbers } of readers) {
      while (numbers.length < sent) numbers.push(numberOf((await client.nextMessage()).payload));
      expect(numbers).toEqual(Array.from({ length: sent }, (_value, index) => index));
    }
    expect(await stage.received("chat", ...fast)).toEqual([[], []]);
    // What the slow one finds when it wakes up: the beginning without a gap, then the end. No message is left out.
    const { numbers, code } = await readToEnd(slow);
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_value, index) => index));
    expect([1013, 1006]).toContain(code);
  });

  test("is cut by messages to itself alone as well, and is no member any more", async () => {
    await using stage = await RestStage.start({ config: { limits: { maxOutboxBytes: 4 * MESSAGE_BYTES } } });
    const slow = await stage.member({ user: "slow", groups: ["only"] });
    slow.client.pauseReading();
    const names = { connection: slow.connectionId };
    let sent = 0;
    while (!hasLeft(stage, slow) && sent < MOST_MESSAGES) await send(stage, "send to connection", names, sent++);
    expect(sent).toBeLessThan(MOST_MESSAGES);
    await expectSlowConsumer(stage, slow);
    expect(await stage.ask("GET", "connection exists", "chat", names)).toBe(404);
    expect(await stage.ask("GET", "user exists", "chat", { user: "slow" })).toBe(404);
    expect(await stage.ask("GET", "group exists", "chat", { group: "only" })).toBe(404);
    await stage.stack.cycle();
    expect(stage.stack.backend.of("disconnect", ofConnection(slow.connectionId)).length).toBe(1);
  });

  test("is not cut while what waits is within the bound, and then gets all of it", async () => {
    await using stage = await RestStage.start({ config: { limits: { maxOutboxBytes: 64 * 1024 * 1024 } } });
    const slow = await stage.member();
    slow.client.pauseReading();
    for (let sent = 0; sent < 300; sent++) await send(stage, "broadcast", {}, sent);
    await stage.stack.cycle();
    expect(hasLeft(stage, slow)).toBeFalse();
    slow.client.resumeReading();
    for (let index = 0; index < 300; index++) {
      expect(numberOf((await slow.client.nextMessage()).payload)).toBe(index);
    }
    expect(await stage.received("chat", slow)).toEqual([[]]);
  });
});

describe("nothing is dropped silently: all in order, or a beginning without a gap and then the end", () => {
  const limits = { maxOutboxBytes: 4 * MESSAGE_BYTES };

  test("for a client that reads in fits and starts while several callers send at once", async () => {
    await using stage = await RestStage.start({ config: { limits } });
    const fitful = await stage.member({ groups: ["g"] });
    const callers = await Promise.all([0, 1, 2, 3].map(() => stage.caller()));
    const path = target("send to group", "chat", { group: "g" });
    // Of each caller the client must see a beginning without a gap, and of all of them everything unless it was cut.
    const sent = callers.map(() => 0);
    for (let burst = 0; burst < 30 && !hasLeft(stage, fitful); burst++) {
      fitful.client.pauseReading();
      await Promise.all(
        callers.map(async (caller, which) => {
          for (let index = 0; index < 16; index++) {
            const number = which * 10_000 + (sent[which] ?? 0);
            const request = { method: "POST", target: path, type: "application/octet-stream", body: message(number) };
            expectDone(await caller.call(request), 202);
            sent[which] = (sent[which] ?? 0) + 1;
          }
        }),
      );
      fitful.client.resumeReading();
    }
    const isCut = hasLeft(stage, fitful);
    if (!isCut)
      await stage.call({
        method: "DELETE",
        target: target("close connection", "chat", { connection: fitful.connectionId }),
      });
    const { numbers } = await readToEnd(fitful);
    for (const [which, count] of sent.entries()) {
      const ofCaller = numbers.filter((number) => Math.floor(number / 10_000) === which);
      expect(ofCaller).toEqual(Array.from({ length: ofCaller.length }, (_value, index) => which * 10_000 + index));
      if (!isCut) expect(ofCaller.length).toBe(count);
    }
  });

  test("for messages that are larger than maxOutboxBytes itself", async () => {
    await using stage = await RestStage.start({ config: { limits: { maxOutboxBytes: 1000 } } });
    const [slow, fast] = [await stage.member({ user: "slow" }), await stage.member({ user: "fast" })];
    slow.client.pauseReading();
    let sent = 0;
    while (!hasLeft(stage, slow) && sent < MOST_MESSAGES) {
      await send(stage, "broadcast", {}, sent);
      expect(numberOf((await fast.client.nextMessage()).payload)).toBe(sent++);
    }
    await expectSlowConsumer(stage, slow);
    const { numbers } = await readToEnd(slow);
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_value, index) => index));
    expect(await stage.received("chat", fast)).toEqual([[]]);
  });
});

describe("maxBufferedBytes, the bound of the whole process", () => {
  // Several bounds, since what is measured in steps might meet the last fifth of a single one by luck.
  test.each([33, 35, 37, 40])(
    "of %d messages: 503 in its last fifth, beyond it the largest is closed",
    async (count) => {
      const limits = { maxOutboxBytes: 64 * 1024 * 1024, maxBufferedBytes: count * MESSAGE_BYTES };
      await using stage = await RestStage.start({ config: { limits } });
      const gate = new Gate();
      stage.stack.backend.onMessage = async (exchange) => {
        if (exchange.request.body.equals(Buffer.from("more"))) {
          exchange.reply(200, ["Content-Type: application/octet-stream"], message(0));
          return;
        }
        // An answer every quarter of a second: a client without any for 2 s would be closed too.
        if (exchange.request.body.equals(Buffer.from("tick"))) await Promise.race([gate.opened, Bun.sleep(250)]);
        else await gate.opened;
        exchange.reply(204);
      };
      const reader = await stage.member({ user: "reader" });
      const largest = await stage.member({ user: "largest" });
      const smaller = await stage.member({ user: "smaller" });
      // The smaller one holds its last message's bytes, since the backend takes its time for those before.
      smaller.client.text(...Array.from({ length: 100 }, () => "tick"), "w".repeat(100_000));
      await stage.stack.backend.next("message", ofConnection(smaller.connectionId));
      largest.client.pauseReading();
      const names = { connection: largest.connectionId };
      let sent = 0;
      let admitted = 0;
      for (let status = 101; status !== 503 && !hasLeft(stage, largest) && sent < MOST_MESSAGES; ) {
        const answer = await trySend(stage, "send to connection", names, sent++);
        // A look at the sockets may fall between a knock and the next message.
        status = answer.status === 503 ? 503 : await knock(stage);
        if (status === 101) admitted++;
      }
      expect(hasLeft(stage, largest)).toBeFalse();
      expect(await knock(stage)).toBe(503);
      // The backend was not asked about refused clients, and clients that are connected are still served.
      expect(stage.stack.backend.of("connect", ({ target: path }) => path.includes("/door/")).length).toBe(admitted);
      const answer = await trySend(stage, "send to connection", names, sent);
      expectError(answer, 503, "POST");
      expect(jsonError(answer.body)).toMatchObject({ code: "buffer_limit", target: "maxBufferedBytes" });
      expect(answer.head.header("Retry-After")).toBe("1");
      expect(await stage.ask("PUT", "add connection to group", "chat", { group: "late", ...names })).toBe(200);
      expect(await stage.ask("GET", "connection exists", "chat", names)).toBe(200);
      // The API sends no more, but the backend's answers still arrive: more of them than the last fifth holds.
      largest.client.text(...Array.from({ length: count }, () => "more"));
      await expectSlowConsumer(stage, largest);
      expect(await stage.received("chat", reader, smaller)).toEqual([[], []]);
      await stage.until(async () => (await knock(stage)) === 101);
      gate.open();
      await stage.stack.backend.next("message", ofConnection(smaller.connectionId));
    },
  );

  test("counts messages that wait for the backend", async () => {
    await using stage = await RestStage.start({ config: { limits: { maxBufferedBytes: 1_000_000 } } });
    const gate = new Gate();
    stage.stack.backend.onMessage = async (exchange) => {
      // As above: without any answer for 2 s the client would be closed.
      if (exchange.request.body.equals(Buffer.from("tick"))) await Promise.race([gate.opened, Bun.sleep(250)]);
      else await gate.opened;
      acceptAs("nobody")(exchange);
    };
    const sender = await stage.member({ user: "sender" });
    sender.client.text(...Array.from({ length: 100 }, () => "tick"), "w".repeat(900_000));
    await stage.stack.backend.next("message", ofConnection(sender.connectionId));
    await stage.until(async () => (await knock(stage)) === 503);
    expect(hasLeft(stage, sender)).toBeFalse();
    gate.open();
    await stage.stack.backend.next("message", ofConnection(sender.connectionId));
    await stage.until(async () => (await knock(stage)) === 101);
    expect(hasLeft(stage, sender)).toBeFalse();
  });
});
