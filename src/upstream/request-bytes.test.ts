import { expect, test } from "bun:test";
import type { ExchangeOwner } from "./exchange.ts";
import { formatOpening, formatRequest, RequestRoom } from "./request-bytes.ts";

const OPENING = formatOpening("host:7071", "hubwire/1.2.3");

test("forms head and body in one piece, values as the bytes that they are", () => {
  const body = new Uint8Array([0, 255, 13, 10]);
  const headers = [["X-ASRS-User-Id", "zo\u00c3\u00ab gr\u00fc\u00df"]] as const;
  const bytes = formatRequest({ method: "POST", target: "/a?b=c", headers, body }, OPENING);
  const head =
    "POST /a?b=c HTTP/1.1\r\nHost: host:7071\r\nUser-Agent: hubwire/1.2.3\r\nAccept-Encoding: identity\r\n" +
    "X-ASRS-User-Id: zo\u00c3\u00ab gr\u00fc\u00df\r\nContent-Length: 4\r\n\r\n";
  expect(bytes).toEqual(Buffer.concat([Buffer.from(head, "latin1"), body]));
});

test("says Content-Length: 0 where a POST has no body, and nothing where a GET has none", () => {
  const request = { target: "/", headers: [], body: new Uint8Array() };
  expect(formatRequest({ method: "POST", ...request }, "").toString()).toBe(
    "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
  );
  expect(formatRequest({ method: "GET", ...request }, "").toString()).toBe("GET / HTTP/1.1\r\n\r\n");
});

test.each(["a\r\nX-ASRS-User-Id: admin", "a\rb", "a\nb", "a\0b", "\u0100"])(
  "throws rather than write %j into a header",
  (value) => {
    const headers = [["X-Forwarded-For", value]] as const;
    expect(() => formatRequest({ method: "POST", target: "/", headers, body: new Uint8Array() }, "")).toThrow(
      "X-Forwarded-For",
    );
  },
);

const OWNER: ExchangeOwner = {
  mayRepeat: false,
  isEventId: () => true,
  readsBody: () => true,
  formatRequest: () => new Uint8Array(),
  onExchangeEnd: () => {},
};
const START = Buffer.from("POST / HTTP/1.1\r\nX-Hubwire-Event-Id: c1.");

test.each([
  [0, 0],
  [1, 9],
  [9, 10],
  [10, 99],
  [99, 100],
  [1000, 64],
  [1_234_567_890_123, 300_000],
  [Number.MAX_SAFE_INTEGER, 1],
])("forms a message's request with number %d and a body of %d bytes, in the room where it fits", (number, length) => {
  const room = new RequestRoom();
  const body = Buffer.alloc(length, "body ");
  const head = `${START}${number}\r\nContent-Length: ${length}\r\n\r\n`;
  for (let turn = 0; turn < 3; turn++) {
    const { bytes, start, end } = room.form(OWNER, START, { number, payload: body }, "");
    expect(Buffer.compare(bytes.subarray(start, end), Buffer.concat([Buffer.from(head), body]))).toBe(0);
    expect(bytes === room.bytes).toBe(length < room.bytes.length);
  }
});

test("requests of one turn are next to each other, and one that no longer fits has bytes of its own", () => {
  const room = new RequestRoom();
  const body = Buffer.alloc(60_000, "b");
  const formed = Array.from({ length: 6 }, (_empty, index) =>
    room.form(OWNER, START, { number: index, payload: body }, ""),
  );
  expect(formed.map(({ bytes }) => bytes === room.bytes)).toEqual([true, true, true, true, false, false]);
  for (const [index, { bytes, start, end }] of formed.entries()) {
    const text = Buffer.from(bytes.subarray(start, end)).toString();
    expect(text).toStartWith(`${START}${index}\r\n`);
    expect(text).toEndWith(`\r\n\r\n${"b".repeat(60_000)}`);
  }
  room.clear();
  expect(room.form(OWNER, START, { number: 1, payload: body }, "").bytes).toBe(room.bytes);
});

test("what a dialect has follow the number is in the head, before the length", () => {
  const { bytes, start, end } = new RequestRoom().form(
    OWNER,
    START,
    { number: 7, payload: Buffer.from("b") },
    "\r\nX-Type: a",
  );
  const head = `${START}7\r\nX-Type: a\r\nContent-Length: 1\r\n\r\n`;
  expect(Buffer.from(bytes.subarray(start, end)).toString()).toBe(`${head}b`);
});
