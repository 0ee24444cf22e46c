import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { type Exchange, RawBackend, unusedPort } from "../../test/support/raw-backend.ts";
import {
  bodyOf,
  type CallEnd,
  messageEvent,
  startUpstream,
  type TestUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";

const MAX_BODY = 100_000;

let backend: RawBackend;
let upstream: TestUpstream;

beforeEach(async () => {
  backend = await RawBackend.start();
  upstream = start(backend.url);
});

afterEach(async () => {
  await upstream.stop();
  await backend.stop();
});

function start(url: string): TestUpstream {
  return startUpstream([upstreamEntry(`${url}/{event}`)], { maxResponseBytes: MAX_BODY });
}

/** Posts a message that the backend answers by this script. */
function answeredBy(script: (exchange: Exchange) => void): Promise<CallEnd> {
  backend.onMessage = script;
  return within(upstream.call(messageEvent()), "the outcome");
}

/** A script, and a promise of the moment when the client has closed the script's connection. */
function watched(script: (exchange: Exchange) => void) {
  const gone = Promise.withResolvers<unknown>();
  return {
    gone: within(gone.promise, "the client to close its connection"),
    script(exchange: Exchange) {
      void exchange.callerGone.then(gone.resolve);
      script(exchange);
    },
  };
}

/** Writes on until the client hangs up. */
function flood(exchange: Exchange, head: string, piece: string): void {
  const { socket } = exchange;
  const more = () => {
    while (!socket.destroyed && socket.writable && socket.write(piece));
  };
  socket.write(head);
  socket.on("drain", more);
  more();
}

describe("a call", () => {
  test("is not-sent where nobody listens", async () => {
    await using dead = start(`http://127.0.0.1:${await unusedPort()}`);
    expect(await dead.call(messageEvent())).toEqual({
      kind: "not-sent",
      detail: "connecting failed: ECONNREFUSED",
    });
  });

  test("is not-sent where the name has no address", async () => {
    await using dead = start("http://nowhere.invalid");
    expect(await dead.call(messageEvent())).toMatchObject({ kind: "not-sent" });
  });

  test.each([
    ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "reset", 200],
    ["HTTP/1.1 404 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", "reset", 404],
    ["HTTP/1.1 200 OK\r\nX", "reset", 200],
    ["HTTP/1.1 2", "reset", null],
    ["", "reset", null],
    ["garbage\r\n\r\n", "malformed", null],
    ["HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 1\r\n\r\nx", "malformed", 200],
  ])("is unknown, with the status that was seen, after %j", async (answer, cause, status) => {
    const outcome = await answeredBy((exchange) => {
      exchange.raw(answer);
      exchange.end();
    });
    expect(outcome).toMatchObject({ kind: "unknown", cause, status });
  });

  test("is unknown where an answer up to the end of the connection is cut by a reset", async () => {
    const outcome = await answeredBy((exchange) => {
      exchange.raw("HTTP/1.1 200 OK\r\n\r\nhalf");
      setImmediate(() => exchange.reset());
    });
    expect(outcome).toMatchObject({ kind: "unknown", cause: "reset" });
  });

  test.each([
    ["declared", `HTTP/1.1 200 OK\r\nContent-Length: ${MAX_BODY + 1}\r\n\r\n`, ""],
    ["endless", "HTTP/1.1 200 OK\r\n\r\n", "x".repeat(9999)],
    ["endless in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", `2000\r\n${"x".repeat(0x2000)}\r\n`],
  ])("is too-large, and its socket destroyed, where a body is %s", async (_name, head, piece) => {
    const { script, gone } = watched((exchange) => (piece === "" ? exchange.raw(head) : flood(exchange, head, piece)));
    expect(await answeredBy(script)).toMatchObject({ kind: "unknown", cause: "too-large", status: 200 });
    await gone;
  });

  test("does not go by way of HTTP_PROXY", async () => {
    const before = process.env["HTTP_PROXY"];
    process.env["HTTP_PROXY"] = `http://127.0.0.1:${await unusedPort()}`;
    try {
      expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
    } finally {
      if (before === undefined) delete process.env["HTTP_PROXY"];
      else process.env["HTTP_PROXY"] = before;
    }
  });
});

describe("an answer", () => {
  test("is the caller's own: a later one does not write over its body", async () => {
    const answers: CallEnd[] = [];
    for (const text of ["a", "b", "c"]) {
      answers.push(await answeredBy((exchange) => exchange.reply(200, [], text.repeat(100))));
    }
    expect(answers.map((answer) => bodyOf(answer).toString())).toEqual(["a", "b", "c"].map((text) => text.repeat(100)));
    expect(backend.connectionCount).toBe(1);
  });

  test("may have a body of the greatest length", async () => {
    expect(bodyOf(await answeredBy((exchange) => exchange.reply(200, [], "x".repeat(MAX_BODY))))).toHaveLength(
      MAX_BODY,
    );
  });

  test("may have a hundred headers, which keep their order and spelling", async () => {
    const lines = Array.from({ length: 100 }, (_, index) => `x-Line-${index}: ${index}`);
    const answer = await answeredBy((exchange) => exchange.reply(200, lines));
    const headers = answer.kind === "answer" ? answer.headers.map(([name, value]) => `${name}: ${value}`) : [];
    expect(headers).toEqual([...lines, "Content-Length: 0"]);
  });

  test("may be a redirect, which is not followed", async () => {
    const lines = [`Location: ${backend.url}/elsewhere`];
    expect(await answeredBy((exchange) => exchange.reply(307, lines))).toMatchObject({ kind: "answer", status: 307 });
    expect(backend.requests).toHaveLength(1);
  });

  test("ends its connection where it switches protocols", async () => {
    const { script, gone } = watched((exchange) => exchange.raw("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"));
    expect(await answeredBy(script)).toMatchObject({ kind: "answer", status: 101 });
    await gone;
  });
});
