import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { DEADLINE_MS } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { audienceOf } from "../support/rest-client.ts";
import { expectDone, expectError, got, type Member, RestStage } from "../support/rest-stage.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** PROTOCOL.md, "REST API", the checks of a send's body: type 415, size 413, stall 408, text that is no UTF-8 400. */
setDefaultTimeout(90_000);

/** The default of `maxMessageBytes`. */
const MAX_BYTES = 1_048_576;
/** How long a body may stall. The 2020 service did not say; its callers gave up after 100 s. */
const STALL_DEADLINE_MS = 60_000;

let stage: RestStage;
let member: Member;
beforeAll(async () => {
  stage = await RestStage.start();
  member = await stage.member();
});
afterAll(async () => {
  await stage.stop();
});

const PATH = "/ws/api/hubs/chat/messages";
const TEXT = { method: "POST", target: PATH, type: "text/plain" };
const BINARY = { method: "POST", target: PATH, type: "application/octet-stream" };

/** Nothing came through, and the service serves on, on old connections and on new ones. */
async function expectUnharmed(): Promise<void> {
  expect(await stage.received("chat", member)).toEqual([[]]);
  using caller = await stage.caller();
  expectDone(await caller.call({ ...TEXT, body: "still there?" }), 202);
  expect(await stage.received("chat", member)).toEqual([[got("text", "still there?")]]);
}

describe("415", () => {
  test.each([
    "text/html",
    "text/plainer",
    "text/*",
    "*/*",
    "application/xml",
    "application/json5",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "image/png",
    "nonsense",
    "",
    "text/plain; charset=iso-8859-1",
    "text/plain; charset=us-ascii",
    "text/plain;charset=utf-16",
    'text/plain; charset="latin1"',
    "application/json; charset=utf-16",
    "text/plain; format=flowed; charset=windows-1252",
  ])("%j", async (type) => {
    expectError(await stage.call({ ...TEXT, type, body: "x" }), 415);
    await expectUnharmed();
  });

  test("no type at all, with a body and without", async () => {
    const request = { method: "POST", target: PATH };
    expectError(await stage.call({ ...request, body: "x" }), 415);
    expectError(await stage.call({ ...request, body: "" }), 415);
    await expectUnharmed();
  });
});

describe("400: text that is not UTF-8", () => {
  test.each([
    ["a byte that never occurs", [0x61, 0xff]],
    ["a character that is cut off", [0x61, 0xc3]],
    ["an overlong slash", [0xc0, 0xaf]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
    ["beyond U+10FFFF", [0xf4, 0x90, 0x80, 0x80]],
  ] as const)("%s", async (_what, bytes) => {
    const body = Uint8Array.from(bytes);
    expectError(await stage.call({ ...TEXT, body }), 400);
    expectError(await stage.call({ ...TEXT, type: "application/json", body }), 400);
    await expectUnharmed();
    expectDone(await stage.call({ ...BINARY, body }), 202);
    expect(await stage.received("chat", member)).toEqual([[got("binary", body)]]);
  });

  test("but a byte order mark is text like any other, and arrives", async () => {
    const body = "\ufeffwith a mark";
    expectDone(await stage.call({ ...TEXT, body }), 202);
    expect(await stage.received("chat", member)).toEqual([[got("text", body)]]);
  });
});

describe("size", () => {
  const full = Buffer.alloc(MAX_BYTES, "0123456789");

  test.each([TEXT, BINARY].map((request) => [request.type, request] as const))(
    "exactly maxMessageBytes of %s arrive; one byte more is 413",
    async (type, request) => {
      expectDone(await stage.call({ ...request, body: full }), 202);
      const [messages] = await stage.received("chat", member);
      expect(messages?.length).toBe(1);
      expect(messages?.[0] && Buffer.from(messages[0].bytes, "latin1").equals(full)).toBeTrue();
      expect(messages?.[0]?.type).toBe(type === "text/plain" ? "text" : "binary");
      using caller = await stage.caller();
      expectError(await caller.call({ ...request, body: Buffer.concat([full, Buffer.from("x")]) }), 413);
      await expectUnharmed();
    },
  );

  test.each([2_097_152, MAX_BYTES + 1, 2 ** 40])(
    "%d bytes announced: 413 before any of them is sent",
    async (count) => {
      using caller = await stage.caller();
      caller.begin(TEXT, `Content-Length: ${count}`);
      expectError(await caller.answer("POST"), 413);
      await expectUnharmed();
    },
  );

  test("a chunked body that grows past it: 413 though it never ends", async () => {
    using caller = await stage.caller();
    caller.begin(BINARY, "Transfer-Encoding: chunked");
    for (let sent = 0; sent <= MAX_BYTES; sent += 65_536) caller.chunk(full.subarray(0, 65_536));
    expectError(await caller.answer("POST"), 413);
    await expectUnharmed();
  });

  test("a chunked body of exactly maxMessageBytes arrives", async () => {
    using caller = await stage.caller();
    caller.begin(BINARY, "Transfer-Encoding: chunked");
    for (let sent = 0; sent < MAX_BYTES; sent += 65_536) caller.chunk(full.subarray(sent, sent + 65_536));
    caller.chunk("");
    expectDone(await caller.answer("POST"), 202);
    const [messages] = await stage.received("chat", member);
    expect(messages?.map(({ bytes }) => Buffer.from(bytes, "latin1").equals(full))).toEqual([true]);
  });

  test("the bound is the configured one", async () => {
    await using own = await RestStage.start({ config: { limits: { maxMessageBytes: 10 } } });
    const client = await own.member();
    expectDone(await own.call({ ...TEXT, body: "ä234567890".slice(0, 9) }), 202);
    expectError(await own.call({ ...TEXT, body: "ä234567890" }), 413);
    expect((await client.client.nextMessage()).payload.toString("utf8")).toBe("ä23456789");
  });

  test("2 MiB that are sent all the same do no harm", async () => {
    using caller = await stage.caller();
    const status = await caller.call({ ...TEXT, body: Buffer.alloc(2 * MAX_BYTES, "x") }).then(
      (answer) => answer.status,
      // The answer may be lost where the server leaves while the body is still being sent.
      () => 413,
    );
    expect(status).toBe(413);
    await expectUnharmed();
  });
});

describe("408: a body that stalls", () => {
  test.concurrent.each([
    ["after a part of its length", "Content-Length: 10", "abc"],
    ["before its first byte", "Content-Length: 10", ""],
    ["between two chunks", "Transfer-Encoding: chunked", "3\r\nabc\r\n"],
    ["inside a chunk", "Transfer-Encoding: chunked", "a\r\nabc"],
  ])(
    "%s",
    async (_what, framing, part) => {
      using caller = await stage.caller();
      caller.begin(TEXT, framing);
      if (part !== "") caller.write(part);
      expectError(await caller.answer("POST", STALL_DEADLINE_MS), 408);
    },
    STALL_DEADLINE_MS + DEADLINE_MS,
  );
});

describe("after stalls", () => {
  test("nothing was delivered, and the service serves on", async () => {
    await expectUnharmed();
  });

  test("a caller that leaves in the middle of a body delivers nothing", async () => {
    for (const framing of ["Content-Length: 10", "Transfer-Encoding: chunked"]) {
      const caller = await stage.caller();
      caller.begin(TEXT, framing);
      caller.write(framing.startsWith("T") ? "3\r\nabc\r\n" : "abc");
      caller.destroy();
    }
    await expectUnharmed();
  });

  test("a body that comes slowly, but comes, is delivered", async () => {
    using caller = await stage.caller();
    caller.begin(TEXT, "Content-Length: 8");
    for (const letter of "slow but") {
      caller.write(letter);
      await stage.stack.cycle();
    }
    expectDone(await caller.answer("POST"), 202);
    expect(await stage.received("chat", member)).toEqual([[got("text", "slow but")]]);
  });
});

test("callers who leave before their answer cost those who come after nothing", async () => {
  for (let round = 0; round < 60; round++) {
    const leaving = await Promise.all(Array.from({ length: 10 }, () => stage.caller()));
    for (const [index, caller] of leaving.entries()) {
      // A token that is new takes a moment to verify, in which the caller leaves.
      const claims = { aud: audienceOf(caller.port, PATH), exp: secondsFromNow(3600 + round * 10 + index) };
      caller.begin({ ...TEXT, token: signToken(claims, { key: KEYS.primary }) }, "Content-Length: 1");
      caller.write("x");
    }
    for (let turns = 0; turns <= round % 4; turns++) await new Promise((resolve) => setImmediate(resolve));
    for (const caller of leaving) caller[Symbol.dispose]();
  }
  using caller = await stage.caller();
  for (let times = 0; times < 20; times++) expectDone(await caller.call({ ...TEXT, body: "" }), 202);
  await stage.received("chat", member);
});
