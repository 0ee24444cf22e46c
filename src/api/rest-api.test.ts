import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type ApiCall, ApiStage, readAnswer } from "../../test/support/api-stage.ts";
import { secondsFromNow, signToken } from "../../test/support/tokens.ts";

const MESSAGES = "/ws/api/hubs/chat/messages";
const MAX_MESSAGE_BYTES = 1000;
const BAD_TOKEN = "no.token.atall";

let stage: ApiStage;

beforeEach(() => {
  stage = new ApiStage({ maxMessageBytes: MAX_MESSAGE_BYTES });
});
afterEach(() => {
  stage.stop();
});

/** A call that is wrong in every way from one check on. */
function post(over: Partial<ApiCall> = {}): ApiCall {
  return { method: "POST", target: MESSAGES, type: "text/plain", body: "hello", ...over };
}

async function refused(call: ApiCall): Promise<string> {
  const { status, code, target } = await stage.call(call);
  return `${status} ${code} ${target}`;
}

/** A body that is never read: reading it would be seen. */
function untouched(): { body: ReadableStream<Uint8Array>; wasRead: () => boolean } {
  let read = false;
  const body = new ReadableStream<Uint8Array>(
    {
      pull() {
        read = true;
      },
    },
    { highWaterMark: 0 },
  );
  return { body, wasRead: () => read };
}

describe("checks in their order", () => {
  test("a path of another kind is not the API's", () => {
    expect(stage.begin({ method: "GET", target: "/metrics" })).toBeNull();
  });

  test("path 404, before everything else", async () => {
    const call = { method: "PATCH", target: "/ws/api/hubs/1/nothing?ttl=0", token: BAD_TOKEN };
    expect(await refused(call)).toBe("404 not_found path");
  });

  test("then method 405, with Allow", async () => {
    const answer = await stage.call({ method: "PATCH", target: "/ws/api/hubs/1/users/%zz?ttl=0", token: BAD_TOKEN });
    expect(answer).toMatchObject({ status: 405, code: "method_not_allowed", target: "method" });
    expect(answer.headers.get("Allow")).toBe("GET, HEAD");
  });

  test("then token 401", async () => {
    const target = "/ws/api/hubs/1/users/%zz/messages?ttl=0";
    expect(await refused(post({ target, token: null, type: "x/y" }))).toBe("401 token_required Authorization");
    expect(await refused(post({ target, token: BAD_TOKEN, type: "x/y" }))).toBe("401 token_malformed access_token");
  });

  test("then names and query 400", async () => {
    expect(await refused(post({ target: "/ws/api/hubs/1/users/%zz/messages?ttl=0", type: "x/y" }))).toBe(
      "400 bad_hub hub",
    );
    expect(await refused(post({ target: "/ws/api/users/%zz/messages?ttl=0", type: "x/y" }))).toBe("400 bad_name user");
    expect(await refused(post({ target: `${MESSAGES}?ttl=0`, type: "x/y" }))).toBe("400 bad_query ttl");
  });

  test("then type 415", async () => {
    const headers = { "Content-Length": `${MAX_MESSAGE_BYTES + 1}` };
    const { body, wasRead } = untouched();
    expect(await refused(post({ type: "text/html", headers, body }))).toBe("415 unsupported_type Content-Type");
    expect(await refused({ method: "POST", target: MESSAGES, body: new Uint8Array(1) })).toBe(
      "415 unsupported_type Content-Type",
    );
    expect(wasRead()).toBe(false);
    expect(stage.timeouts).toEqual([]);
  });

  test("then size 413, by Content-Length before the body is read; the connection is of no more use", async () => {
    const headers = { "Content-Length": `${MAX_MESSAGE_BYTES + 1}` };
    const { body, wasRead } = untouched();
    const answer = await stage.call(post({ headers, body }));
    expect(answer).toMatchObject({ status: 413, code: "message_too_big", target: "maxMessageBytes" });
    expect(answer.headers.get("Connection")).toBe("close");
    expect(wasRead()).toBe(false);
  });

  test("then 503 while more than 80 % of maxBufferedBytes is in use, before the body is read", async () => {
    stage.stop();
    stage = new ApiStage({ maxMessageBytes: MAX_MESSAGE_BYTES, maxBufferedBytes: 1000 });
    stage.core.pressure.hold(801);
    const tooBig = post({ headers: { "Content-Length": `${MAX_MESSAGE_BYTES + 1}` } });
    expect(await refused(tooBig)).toBe("413 message_too_big maxMessageBytes");
    expect(await refused(post({ type: "x/y" }))).toBe("415 unsupported_type Content-Type");
    const timersBefore = stage.core.clock.timerCount;
    const { body, wasRead } = untouched();
    const answer = await stage.call(post({ body }));
    expect(answer).toMatchObject({ status: 503, code: "buffer_limit", target: "maxBufferedBytes" });
    expect(answer.body).toContain("limits.maxBufferedBytes");
    expect(answer.headers.get("Retry-After")).toBe("1");
    expect(wasRead()).toBe(false);
    expect(stage.core.clock.timerCount).toBe(timersBefore);
    expect(stage.broker.useCount).toBe(0);
  });

  test("then a stalled body 408, which also ends the connection", async () => {
    const { clock } = stage.core;
    const timersBefore = clock.timerCount;
    const answering = stage.begin(post({ body: untouched().body }));
    // The token's signature is checked on another thread; the body's deadline begins behind it.
    while (clock.timerCount === timersBefore) await new Promise((next) => setImmediate(next));
    await clock.advance(10_000);
    const answer = await readAnswer((await answering) ?? new Response());
    expect(answer).toMatchObject({ status: 408, code: "body_timeout", target: "body" });
    expect(answer.headers.get("Connection")).toBe("close");
  });

  test("then text that is not UTF-8 400", async () => {
    expect(await refused(post({ body: Uint8Array.of(0xff) }))).toBe("400 bad_text body");
  });

  test("a refused call never comes to the broker", async () => {
    const member = stage.core.open({ groups: ["red"] });
    for (const target of ["/ws/api/hubs/1/messages", "/ws/api/hubs/chat/users/%zz/messages", `${MESSAGES}?ttl=0`]) {
      await stage.call(post({ target }));
    }
    for (const target of ["users/%zz/groups/red", "users/ann/groups/%20", "groups/red/connections/%00"]) {
      for (const method of ["PUT", "DELETE", "GET", "HEAD"]) {
        await stage.ask(method, `/ws/api/hubs/chat/${target}`);
      }
    }
    await stage.call(post({ type: "x/y" }));
    await stage.call(post({ body: "x".repeat(MAX_MESSAGE_BYTES + 1) }));
    await stage.call(post({ token: BAD_TOKEN }));
    await stage.call(post({ body: Uint8Array.of(0xff) }));
    expect(stage.broker.useCount).toBe(0);
    expect(member.socket.sent).toEqual([]);
  });
});

describe("a message", () => {
  test.each([
    ["as long as it may be", MAX_MESSAGE_BYTES, 202],
    ["one byte longer", MAX_MESSAGE_BYTES + 1, 413],
  ])("%s, with Content-Length or in chunks, is %p bytes: %p", async (_what, size, status) => {
    const member = stage.core.open();
    const bytes = new Uint8Array(size).fill(120);
    const type = "application/octet-stream";
    const chunks = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(bytes.subarray(0, 600));
        controller.enqueue(bytes.subarray(600));
        controller.close();
      },
    });
    expect((await stage.call(post({ type, body: bytes, headers: { "Content-Length": `${size}` } }))).status).toBe(
      status,
    );
    expect((await stage.call(post({ type, body: chunks }))).status).toBe(status);
    expect(member.socket.sent.map((frame) => frame.length)).toEqual(status === 202 ? [size, size] : []);
  });

  test("is text or binary by its type, and may be empty", async () => {
    const member = stage.core.open();
    await stage.call(post({ body: "grüße" }));
    await stage.call(post({ type: "application/json", body: '{"a":1}' }));
    await stage.call(post({ type: "application/octet-stream", body: Uint8Array.of(0, 255) }));
    await stage.call({ method: "POST", target: MESSAGES, type: "text/plain" });
    await stage.call({ method: "POST", target: MESSAGES, type: "application/octet-stream" });
    expect(member.socket.sent).toEqual(["grüße", '{"a":1}', Uint8Array.of(0, 255), "", new Uint8Array()]);
  });

  test("has an answer without a body", async () => {
    expect(await stage.call(post())).toMatchObject({ status: 202, body: "" });
  });
});

describe("bytes that are held while a body is on its way", () => {
  test("count against maxBufferedBytes and are let go, with any outcome of the call", async () => {
    stage.stop();
    stage = new ApiStage({ maxMessageBytes: 1000, maxBufferedBytes: 1000 });
    const { pressure, clock } = stage.core;
    const held = async (call: ApiCall, finish: (sent: ReadableStreamDefaultController<Uint8Array>) => unknown) => {
      const { promise, resolve } = Promise.withResolvers<ReadableStreamDefaultController<Uint8Array>>();
      const body = new ReadableStream<Uint8Array>({ start: (controller) => resolve(controller) });
      const answering = stage.begin({ ...call, body });
      const controller = await promise;
      controller.enqueue(new Uint8Array(900).fill(0xff));
      // The token's signature is checked on another thread.
      const isHigh = (): boolean => pressure.isHigh;
      while (!isHigh()) await new Promise((next) => setImmediate(next));
      await finish(controller);
      const { status } = (await answering) ?? new Response();
      expect(isHigh()).toBe(false);
      return status;
    };
    const binary = post({ type: "application/octet-stream" });
    expect(await held(binary, (sent) => sent.close())).toBe(202);
    expect(await held(post(), (sent) => sent.close())).toBe(400);
    expect(await held(binary, (sent) => sent.enqueue(new Uint8Array(101)))).toBe(413);
    expect(await held(binary, (sent) => sent.error(new Error("gone")))).toBe(408);
    expect(await held(binary, () => clock.advance(10_000))).toBe(408);
    stage.broker.failure = new Error("the broker is out of reach");
    await expect(held(binary, (sent) => sent.close())).rejects.toThrow("the broker is out of reach");
  });

  test("are at the limit with 80 % and past it with one byte more, for sends alone", async () => {
    stage.stop();
    stage = new ApiStage({ maxMessageBytes: 1000, maxBufferedBytes: 1000 });
    const { pressure } = stage.core;
    const member = stage.core.open({ connectionId: "c1", userId: "ann" });
    pressure.hold(800);
    const targets = ["messages", "users/ann/messages", "groups/red/messages", "connections/c1/messages"];
    const statuses = async () => {
      const seen: number[] = [];
      for (const target of targets) {
        for (const body of ["hello", ""])
          seen.push((await stage.call(post({ target: `/ws/api/hubs/chat/${target}`, body }))).status);
      }
      return [...new Set(seen)];
    };
    expect(await statuses()).toEqual([202]);
    pressure.hold(1);
    expect(await statuses()).toEqual([503]);
    for (const [method, target, status] of [
      ["PUT", "groups/red/connections/c1", 200],
      ["PUT", "users/ann/groups/red?ttl=9", 202],
      ["GET", "groups/red", 200],
      ["HEAD", "users/ann/groups/red", 200],
      ["DELETE", "users/ann/groups", 200],
      ["GET", "connections/c1", 200],
      ["DELETE", "connections/c1", 202],
    ] as const) {
      expect([target, await stage.ask(method, `/ws/api/hubs/chat/${target}`)]).toEqual([target, status]);
    }
    expect(member.socket.done).toEqual(["close 1000 "]);
    pressure.hold(-1);
    expect(await statuses()).toEqual([202]);
  });

  test("do not wait for the server's own timeout, which is put back afterwards", async () => {
    await stage.call(post());
    expect(stage.timeouts).toEqual(["held", "restored"]);
    await stage.call(post({ body: Uint8Array.of(0xff) }));
    await stage.call(post({ body: "x".repeat(MAX_MESSAGE_BYTES + 1) }));
    stage.broker.failure = new Error("the broker is out of reach");
    await expect(stage.call(post())).rejects.toThrow("the broker is out of reach");
    await stage.call({ method: "GET", target: MESSAGES });
    expect(stage.timeouts).toEqual(Array.from({ length: 4 }, () => ["held", "restored"]).flat());
  });
});

describe("HEAD", () => {
  test("has the status of GET, and no body even in an error", async () => {
    stage.core.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
    for (const thing of ["connections/c1", "users/ann", "groups/red", "users/ann/groups/red", "groups/red/users/ann"]) {
      for (const path of [thing, thing.replaceAll(/c1|ann|red/g, "x"), thing.replaceAll(/c1|ann|red/g, "%zz")]) {
        const target = `/ws/api/hubs/chat/${path}`;
        const got = await stage.call({ method: "GET", target });
        const head = await stage.call({ method: "HEAD", target });
        expect(head).toMatchObject({ status: got.status, body: "" });
        expect(got.body === "").toBe(got.status === 200);
      }
    }
    expect(await stage.call({ method: "HEAD", target: MESSAGES })).toMatchObject({ status: 405, body: "" });
    expect(await stage.call({ method: "HEAD", target: "/ws/api/x" })).toMatchObject({ status: 404, body: "" });
  });
});

test("an error is JSON of one form, and holds neither names nor tokens", async () => {
  const target = "/ws/api/hubs/chat/users/secret-name%0D%0AX-Evil:%201/messages";
  const answer = await stage.call(post({ target }));
  expect(answer.headers.get("Content-Type")).toBe("application/json");
  expect(answer.body).not.toContain("secret-name");
  expect([...answer.headers.keys()]).not.toContain("x-evil");
  const unsigned = await stage.call(post({ token: "secret.token.here" }));
  expect(unsigned.body).not.toContain("secret");
});

test("where public hosts are set, the host that the request names does not count", async () => {
  const aud = `http://other.example${MESSAGES}`;
  const token = signToken({ aud, exp: secondsFromNow(60) }, { key: stage.keys.primary });
  expect(await refused(post({ token, headers: { Host: "other.example" } }))).toBe("401 token_audience aud");
});

test("when the keys change, a token that was good a moment ago is refused", async () => {
  const token = stage.token(MESSAGES);
  expect((await stage.call(post({ token }))).status).toBe(202);
  stage.keys = { primary: "another-key", secondary: null };
  expect(await refused(post({ token }))).toBe("401 token_signature access_token");
  expect((await stage.call(post())).status).toBe(202);
});

test("any request gets an answer of the API, and nothing throws", async () => {
  stage.core.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
  const part = fc.constantFrom(
    "messages",
    "users",
    "groups",
    "connections",
    "hubs",
    "ann",
    "red",
    "c1",
    "%zz",
    "",
    "a%20",
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("/ws/api/", "/api/", "/ws/api/v1/"),
      fc.array(part, { maxLength: 6 }),
      fc.constantFrom("", "?hub=chat", "?hub=%zz", "?ttl=5", "?reason=%zz&excluded=1"),
      fc.constantFrom("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"),
      async (prefix, parts, query, method) => {
        const { status } = await stage.call({ method, target: prefix + parts.join("/") + query });
        expect([200, 202, 400, 401, 404, 405, 415]).toContain(status);
      },
    ),
    { numRuns: 300 },
  );
  expect(stage.core.report.faults).toEqual([]);
});
