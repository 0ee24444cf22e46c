import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { HttpHead } from "../support/http-head.ts";
import { Stack } from "../support/stack.ts";

/** What an upstream answers to a connect event cannot add a line to the head that the client gets. */
setDefaultTimeout(60_000);

/** Bytes that some server would take for the end of a line, one char a byte. The last ones become CR and LF if cut to one byte. */
const LINE_ENDS: readonly (readonly [what: string, bytes: string])[] = [
  ["a bare CR", "\r"],
  ["a bare LF", "\n"],
  ["CR LF with a folded line", "\r\n "],
  ["NUL", "\0"],
  ["a vertical tab", "\x0b"],
  ["DEL", "\x7f"],
  ["NEL in Latin-1", "\x85"],
  ["NEL in UTF-8", "\xc2\x85"],
  ["a C1 control in Latin-1", "\x8d\x8a"],
  ["U+2028 in UTF-8", "\xe2\x80\xa8"],
  ["U+010D U+010A in UTF-8", "\xc4\x8d\xc4\x8a"],
  ["U+560D U+560A in UTF-8", "\xe5\x98\x8d\xe5\x98\x8a"],
  ["escaped CR LF", "%0d%0a"],
];

/** No line was added, and none has a control character. */
function expectNoInjection(head: HttpHead): void {
  const names = head.names.map((name) => name.trim().toLowerCase());
  expect(names).not.toContain("set-cookie");
  expect(names).not.toContain("x-injected");
  for (const line of head.lines) expect(line).not.toMatch(/[\0-\x08\x0a-\x1f\x7f]/);
}

let stack: Stack;

beforeAll(async () => {
  // Most answers are bad: the breaker would keep the later ones away.
  stack = await Stack.start({ upstreams: [{ breaker: { failureRatio: 0 }, passResponseHeaders: ["X-Passed"] }] });
});

afterAll(() => stack[Symbol.asyncDispose]());

const INJECTED = "Set-Cookie: session=stolen";

describe.each(LINE_ENDS)("%s", (_what, end) => {
  test("in a relayed 4xx header", async () => {
    stack.backend.onConnect = (exchange) =>
      exchange.raw(`HTTP/1.1 403 No\r\nX-Why: a${end}${INJECTED}\r\nContent-Length: 2\r\n\r\nno`);
    const answer = await (await stack.request()).answer();
    expect([403, 502]).toContain(answer.status);
    expectNoInjection(answer.head);
  });

  test("in the reason of a relayed 4xx, and in a header's name", async () => {
    for (const head of [`HTTP/1.1 403 a${end}${INJECTED}\r\n`, `HTTP/1.1 403 No\r\nX${end}${INJECTED}\r\n`]) {
      stack.backend.onConnect = (exchange) => exchange.raw(`${head}Content-Length: 2\r\n\r\nno`);
      const answer = await (await stack.request()).answer();
      expect([403, 502]).toContain(answer.status);
      expectNoInjection(answer.head);
    }
  });

  test.each(["X-ASRS-User-Id", "X-ASRS-Connection-Group", "X-Injected", "X-ASRS-User-Id: a\r\nX-Passed"])(
    "in %s of a 2xx",
    async (name) => {
      stack.backend.onConnect = (exchange) =>
        exchange.raw(`HTTP/1.1 200 OK\r\n${name}: a${end}${INJECTED}\r\nContent-Length: 0\r\n\r\n`);
      const client = await stack.request();
      const answer = await client.answer();
      expect([101, 401, 502]).toContain(answer.status);
      expectNoInjection(answer.head);
    },
  );

  test("in the subprotocol that it chooses, though the client offers the like", async () => {
    stack.backend.onConnect = (exchange) =>
      exchange.raw(
        `HTTP/1.1 200 OK\r\nX-ASRS-User-Id: a\r\nSec-WebSocket-Protocol: chat${end}${INJECTED}\r\nContent-Length: 0\r\n\r\n`,
      );
    const client = await stack.request({ lines: ["Sec-WebSocket-Protocol: chat"] });
    const answer = await client.answer();
    expect([101, 502]).toContain(answer.status);
    expectNoInjection(answer.head);
    expect(answer.head.all("sec-websocket-protocol").filter((chosen) => chosen !== "chat")).toEqual([]);
  });
});
