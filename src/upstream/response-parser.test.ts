import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MAX_HEAD_BYTES, MAX_HEADER_LINES } from "./response-head.ts";
import { ResponseParser } from "./response-parser.ts";

const MAX_BODY = 64;

/** Everything that a parser tells in the end. */
interface Told {
  readonly result: unknown;
  readonly status: number | null;
  readonly persistent: boolean;
  readonly keepAliveSeconds: number | null;
}

function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/** Feeds the pieces and then, unless the answer was whole, the end of the connection. */
function parse(pieces: readonly Uint8Array[]): Told {
  const parser = new ResponseParser(MAX_BODY);
  for (const piece of pieces) parser.push(piece);
  parser.end();
  const { result, status, keepAliveSeconds } = parser;
  if (result?.kind === "fault") return { result: result.cause, status, persistent: false, keepAliveSeconds: null };
  const body = result === null ? null : Buffer.from(result.body).toString("latin1");
  return { result: { ...result, body }, status, persistent: parser.persistent, keepAliveSeconds };
}

function parseText(text: string): Told {
  return parse([bytesOf(text)]);
}

function cutAt(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const cuts = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...cuts, bytes.length].map((cut, index) => bytes.slice(cuts[index - 1] ?? 0, cut));
}

const lines = (count: number): string => "A: b\r\n".repeat(count);

/** Answers with their names, and what they come to. */
const ANSWERS: Record<string, readonly [text: string, status: number, body: string, persistent: boolean]> = {
  "a counted body": ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true],
  "no body": ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true],
  "a body of the greatest length": [
    `HTTP/1.1 200 OK\r\nContent-Length: ${MAX_BODY}\r\n\r\n${"x".repeat(MAX_BODY)}`,
    200,
    "x".repeat(MAX_BODY),
    true,
  ],
  "the same length twice": ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2, 2\r\n\r\nab", 200, "ab", true],
  "no reason": ["HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, "", true],
  "an empty reason": ["HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n", 500, "", true],
  "bytes behind it": ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK", 200, "ab", false],
  chunks: [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n00a\r\n0123456789\r\n0\r\n\r\n",
    200,
    "abc0123456789",
    true,
  ],
  "chunks with extensions and trailers": [
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3 ;a="b";c\r\nabc\r\n0;x\r\nX-A: b\r\nX-C:\r\n\r\n',
    200,
    "abc",
    true,
  ],
  "chunks that hold line ends": [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n",
    200,
    "\r\n\r\n",
    true,
  ],
  "a body up to the end": ["HTTP/1.1 200 OK\r\nX: y\r\n\r\nall of it", 200, "all of it", false],
  "204 that names a length": ["HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, "", true],
  "204 that names nothing": ["HTTP/1.1 204 No Content\r\n\r\n", 204, "", true],
  "304 with a length": ["HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "", true],
  "interim answers before it": [
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 1\r\n\r\nz",
    201,
    "z",
    true,
  ],
  "101, which ends HTTP": ["HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101, "", false],
  "Connection: close": ["HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", 200, "a", false],
  "HTTP/1.0": ["HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, "a", false],
  "HTTP/1.0 that keeps alive": [
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
    200,
    "a",
    true,
  ],
  "identity as its coding": [
    "HTTP/1.1 200 OK\r\nContent-Encoding: Identity\r\nContent-Length: 1\r\n\r\na",
    200,
    "a",
    true,
  ],
  "as many header lines as may be": [`HTTP/1.1 204 OK\r\n${lines(MAX_HEADER_LINES)}\r\n`, 204, "", true],
  "a redirect": ["HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n", 302, "", true],
};

/** Broken answers, their cause, and the status that was seen. */
const FAULTS: Record<string, readonly [text: string, cause: string, status: number | null]> = {
  "nothing at all": ["", "reset", null],
  garbage: ["garbage\r\n\r\n", "malformed", null],
  "an empty line first": ["\r\nHTTP/1.1 200 OK\r\n\r\n", "malformed", null],
  "another protocol": ["HTTP/2 200\r\n\r\n", "malformed", null],
  "a status of two digits": ["HTTP/1.1 20 OK\r\n\r\n", "malformed", null],
  "a status that is none": ["HTTP/1.1 999 Odd\r\n\r\n", "malformed", null],
  "a head that ends in its status line": ["HTTP/1.1 200 O", "reset", null],
  "a head that ends behind its status line": ["HTTP/1.1 200 OK\r\nX-A", "reset", 200],
  "an interim answer only": ["HTTP/1.1 100 Continue\r\n\r\n", "reset", null],
  "half of an interim answer": ["HTTP/1.1 100 Continue\r\nX", "reset", null],
  "a body that ends early": ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "reset", 200],
  "a bare line feed": ["HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n", "malformed", 200],
  "bare line feeds only": ["HTTP/1.1 200 OK\nContent-Length: 0\n\n", "malformed", null],
  "a folded line": ["HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n", "malformed", 200],
  "a space before the colon": ["HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "malformed", 200],
  "no colon": ["HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "malformed", 200],
  "no name": ["HTTP/1.1 200 OK\r\n: y\r\n\r\n", "malformed", 200],
  "a bare CR in a value": ["HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "malformed", 200],
  "NUL in a value": ["HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "malformed", 200],
  "one header line too many": [`HTTP/1.1 204 OK\r\n${lines(MAX_HEADER_LINES + 1)}\r\n`, "malformed", 204],
  "a head over its limit": [`HTTP/1.1 204 OK\r\nX: ${"y".repeat(MAX_HEAD_BYTES)}\r\n\r\n`, "malformed", 204],
  "a head without end": [`HTTP/1.1 204 OK\r\nX: ${"y".repeat(MAX_HEAD_BYTES)}`, "malformed", 204],
  "lengths that differ": ["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "malformed", 200],
  "a negative length": ["HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "malformed", 200],
  "a signed length": ["HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", "malformed", 200],
  "an empty length": ["HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "malformed", 200],
  "a length beyond counting": ["HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "malformed", 200],
  "a length and chunks": [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "malformed",
    200,
  ],
  "another transfer coding": ["HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "malformed", 200],
  "chunks in HTTP/1.0": ["HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "malformed", 200],
  "a coded body": ["HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab", "malformed", 200],
  "a body that is declared too long": [`HTTP/1.1 200 OK\r\nContent-Length: ${MAX_BODY + 1}\r\n\r\n`, "too-large", 200],
  "a chunk that is declared too long": [
    "HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    "too-large",
    201,
  ],
  "chunks that are too long together": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n${MAX_BODY.toString(16)}\r\n`,
    "too-large",
    200,
  ],
  "too much up to the end": [`HTTP/1.1 200 OK\r\n\r\n${"x".repeat(MAX_BODY + 1)}`, "too-large", 200],
  "a chunk size that is none": ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "malformed", 200],
  "an empty chunk size": ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "malformed", 200],
  "a chunk size without CR": ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n", "malformed", 200],
  "an endless chunk extension": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;${"e".repeat(5000)}`,
    "malformed",
    200,
  ],
  "a chunk longer than it says": [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "malformed",
    200,
  ],
  "chunks that end early": ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "reset", 200],
  "a trailer that is none": [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nnonsense\r\n\r\n",
    "malformed",
    200,
  ],
  "endless trailers": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n${lines(MAX_HEADER_LINES + 1)}`,
    "malformed",
    200,
  ],
  "a head and trailers that are too long together": [
    `HTTP/1.1 200 OK\r\nX: ${"y".repeat(40_000)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ${"y".repeat(40_000)}\r\n\r\n`,
    "malformed",
    200,
  ],
  "endless interim answers": ["HTTP/1.1 100 Continue\r\n\r\n".repeat(3000), "malformed", null],
};

describe("ResponseParser", () => {
  test.each(Object.entries(ANSWERS))("reads an answer with %s", (_name, [text, status, body, persistent]) => {
    expect(parseText(text)).toMatchObject({ result: { kind: "answer", status, body }, status, persistent });
  });

  test.each(Object.entries(FAULTS))("refuses an answer with %s", (_name, [text, cause, status]) => {
    expect(parseText(text)).toMatchObject({ result: cause, status });
  });

  test("reads every answer alike, whole or byte by byte", () => {
    for (const [text] of [...Object.values(ANSWERS), ...Object.values(FAULTS)]) {
      const bytes = bytesOf(text);
      const single = Array.from(bytes, (byte) => Uint8Array.of(byte));
      expect(parse(single)).toEqual(parse([bytes]));
    }
  });

  test("reads every answer alike, wherever it is cut", () => {
    const texts = [...Object.values(ANSWERS), ...Object.values(FAULTS)].map(([text]) => text);
    const cuts = fc.array(fc.nat(70_000), { maxLength: 8 });
    fc.assert(
      fc.property(fc.constantFrom(...texts), cuts, (text, places) => {
        const bytes = bytesOf(text);
        expect(parse(cutAt(bytes, places))).toEqual(parse([bytes]));
      }),
      { numRuns: 500 },
    );
  });

  test("comes to one result for whatever bytes arrive, wherever they are cut", () => {
    const snippets = [
      "HTTP/1.1 200 OK\r\n",
      "Content-Length: 3\r\n",
      "Transfer-Encoding: chunked\r\n",
      "\r\n",
      "3\r\nabc\r\n",
    ];
    const text = fc.array(fc.oneof(fc.constantFrom(...snippets), fc.string({ maxLength: 4 })), { maxLength: 10 });
    fc.assert(
      fc.property(text, fc.array(fc.nat(100), { maxLength: 5 }), (parts, places) => {
        const bytes = bytesOf(parts.join(""));
        expect(parse(cutAt(bytes, places))).toEqual(parse([bytes]));
      }),
      { numRuns: 1000 },
    );
  });

  test("keeps header lines in order, spelling and repeats, and reads them as UTF-8 or else Latin-1", () => {
    const parser = new ResponseParser(MAX_BODY);
    parser.push(Buffer.from("HTTP/1.1 204 OK\r\nx-B:  ü \t\r\nX-a:1\r\nx-B: 2\r\nX-L: ", "utf8"));
    parser.push(bytesOf("\xfc\r\n\r\n"));
    expect(parser.result).toMatchObject({
      headers: [
        ["x-B", "ü"],
        ["X-a", "1"],
        ["x-B", "2"],
        ["X-L", "ü"],
      ],
    });
  });

  test.each([
    ["timeout=5, max=100", 5],
    ["max=100, Timeout = 7", 7],
    ["max=3", null],
  ])("reads Keep-Alive: %s", (value, seconds) => {
    expect(parseText(`HTTP/1.1 204 OK\r\nKeep-Alive: ${value}\r\n\r\n`).keepAliveSeconds).toBe(seconds);
  });

  test("refuses garbage as soon as it is some, without waiting for the end of a head", () => {
    const parser = new ResponseParser(MAX_BODY);
    parser.push(bytesOf("HTTQ"));
    expect(parser.result).toMatchObject({ kind: "fault", cause: "malformed" });
  });

  test("tells the status while the rest of the head is still to come", () => {
    const parser = new ResponseParser(MAX_BODY);
    parser.push(bytesOf("HTTP/1.1 200 OK"));
    expect(parser.status).toBeNull();
    parser.push(bytesOf("\r\nX"));
    expect(parser.status).toBe(200);
    expect(parser.result).toBeNull();
  });
});
