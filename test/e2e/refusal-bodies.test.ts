import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { until } from "../support/deadline.ts";
import type { Script } from "../support/raw-backend.ts";
import type { RawAnswer } from "../support/raw-websocket.ts";
import { Stack, type StackOptions } from "../support/stack.ts";

/** The seed: "4xx: Error, the response from Upstream will be returned as the response for the client request." */
setDefaultTimeout(60_000);

/** What a client gets for a connect event that is answered by a script, and the line of the log about it. */
async function refusedBy(script: Script, options: StackOptions = {}) {
  await using stack = await Stack.start(options);
  stack.backend.onConnect = script;
  const answer = await (await stack.request()).answer();
  const lines = () => stack.gateway.logLines().filter(({ msg }) => msg === "connection refused");
  await until(() => lines().length > 0, "the line of the refusal");
  stack.behave();
  await stack.cycle();
  expect(stack.targets()).toEqual(["/chat/api/connect"]);
  return { answer, line: lines()[0] };
}

function expectBodiless(answer: RawAnswer): void {
  expect(answer.body.length).toBe(0);
  expect(answer.head.all("content-length")).toEqual(["0"]);
}

describe("the body of a 4xx passes as bytes", () => {
  const text = "nobody comes in";
  test.each([
    ["gzip", gzipSync(text)],
    ["deflate", deflateSync(text)],
    ["br", brotliCompressSync(text)],
    ["zstd", Buffer.from("what nobody here can read")],
    ["gzip, br", brotliCompressSync(gzipSync(text))],
  ])("with its coding: %s", async (coding, body) => {
    const lines = [`Content-Encoding: ${coding}`, "Content-Type: text/plain"];
    const { answer, line } = await refusedBy((exchange) => exchange.reply(403, lines, body));
    expect(answer.status).toBe(403);
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.head.all("content-encoding")).toEqual([coding]);
    expect(answer.head.all("content-type")).toEqual(["text/plain"]);
    expect(answer.head.all("content-length")).toEqual([String(body.length)]);
    expect(line).toMatchObject({ code: "relayed", cause: "the upstream refused" });
  });

  test("also where it would be too large when decoded", async () => {
    const body = gzipSync(Buffer.alloc(100_000));
    const config = { limits: { maxResponseBytes: 1000 } };
    const { answer } = await refusedBy((x) => x.reply(403, ["Content-Encoding: gzip"], body), { config });
    expect([answer.status, answer.body.equals(body)]).toEqual([403, true]);
  });
});

describe("the headers of a 4xx pass as bytes", () => {
  test("Latin-1, UTF-8 and bytes that are neither", async () => {
    const latin1 = "X-Latin1: gr\xfc\xdf dich";
    const utf8 = `X-Utf8: ${Buffer.from("grüß dich").toString("latin1")}`;
    const both = `X-Both: ${Buffer.from("ü").toString("latin1")}\xfc`;
    const every = `X-Every: a${Array.from({ length: 128 }, (_, i) => String.fromCharCode(128 + i)).join("")}z`;
    const { answer } = await refusedBy((exchange) =>
      exchange.raw(
        `HTTP/1.1 403 No\r\n${latin1}\r\n${utf8}\r\n${both}\r\n${every}\r\nContent-Type: text/x; n=\xe4\r\nContent-Length: 0\r\n\r\n`,
      ),
    );
    for (const line of [latin1, utf8, both, every, "Content-Type: text/x; n=\xe4"]) {
      expect(answer.head.lines).toContain(line);
    }
  });

  test.each(["", "a body"])("an empty Content-Type stays one (body %j)", async (body) => {
    const { answer } = await refusedBy((exchange) => exchange.reply(403, ["Content-Type: "], body));
    expect(answer.head.all("content-type")).toEqual([""]);
    expect(answer.body.toString()).toBe(body);
    expect(answer.head.all("content-length")).toEqual([String(body.length)]);
  });

  test("repeated lines become one comma list, but Set-Cookie's", async () => {
    const lines = ["X-A: 1", "Set-Cookie: a=1", "x-a: 2", "Set-Cookie: b=2", "Content-Type: a/b", "Content-Type: c/d"];
    const { answer } = await refusedBy((exchange) => exchange.reply(403, lines, "no"));
    expect(answer.head.all("x-a")).toEqual(["1, 2"]);
    expect(answer.head.all("set-cookie")).toEqual(["a=1", "b=2"]);
    expect(answer.head.all("content-type")).toEqual(["a/b, c/d"]);
  });
});

describe("a 4xx whose body cannot be passed on keeps its status and headers", () => {
  const head = "HTTP/1.1 403 No\r\nX-Why: because\r\nContent-Encoding: gzip\r\n";
  const limits = { config: { limits: { maxResponseBytes: 1000 } }, upstreams: [{ timeoutMs: 500 }] };
  const rows: readonly (readonly [string, string, Script])[] = [
    ["declared too large", "longer than 1000 bytes", (x) => x.raw(`${head}Content-Length: 1001\r\n\r\n`)],
    [
      "too large in chunks",
      "longer than 1000 bytes",
      (x) => x.raw(`${head}Transfer-Encoding: chunked\r\n\r\n3e9\r\n${"y".repeat(1001)}\r\n`),
    ],
    ["too large up to the end", "longer than 1000 bytes", (x) => x.raw(`${head}\r\n${"y".repeat(1001)}`)],
    [
      "late",
      "no whole answer within 500 ms",
      async (x) => {
        x.raw(`${head}Content-Length: 9\r\n\r\nhalf`);
        await x.callerGone;
      },
    ],
    [
      "cut off",
      "closed before the answer was whole",
      (x) => {
        x.raw(`${head}Content-Length: 9\r\n\r\nhalf`);
        x.end();
      },
    ],
    ["framed wrongly", "framed wrongly", (x) => x.raw(`${head}Transfer-Encoding: chunked\r\n\r\nnone\r\n`)],
  ];
  test.each(rows)("%s", async (_what, cause, script) => {
    const { answer, line } = await refusedBy(script, limits);
    expect(answer.status).toBe(403);
    expectBodiless(answer);
    expect(answer.head.all("x-why")).toEqual(["because"]);
    // It would be said of a body that is not there.
    expect(answer.head.all("content-encoding")).toEqual([]);
    expect(line).toMatchObject({ status: 403, code: "relayed_without_body" });
    expect(String(line?.["cause"])).toContain(cause);
  });

  test("a body of exactly maxResponseBytes passes", async () => {
    const { answer } = await refusedBy((x) => x.reply(403, [], "x".repeat(1000)), limits);
    expect([answer.status, answer.body.length]).toEqual([403, 1000]);
  });

  test("no room in limits.maxBufferedBytes", async () => {
    const config = { limits: { maxBufferedBytes: 1_048_576, maxResponseBytes: 10_485_760 } };
    const { answer, line } = await refusedBy((x) => x.reply(403, ["X-Why: because"], Buffer.alloc(4_194_304)), {
      config,
    });
    expect(answer.status).toBe(403);
    expectBodiless(answer);
    expect(answer.head.all("x-why")).toEqual(["because"]);
    expect(String(line?.["cause"])).toContain("limits.maxBufferedBytes");
  });

  test.each([
    ["of a head that is broken", "HTTP/1.1 401 No\r\nX-Why: because\r\nno colon\r\n\r\n"],
    ["of a head that never ends", "HTTP/1.1 401 No\r\nX-Why: because\r\n"],
    ["of a body with two lengths", "HTTP/1.1 401 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"],
  ])("the status alone %s", async (_what, text) => {
    const { answer } = await refusedBy((exchange) => exchange.raw(text), limits);
    expect(answer.status).toBe(401);
    expectBodiless(answer);
    expect(answer.head.all("x-why")).toEqual([]);
  });
});
