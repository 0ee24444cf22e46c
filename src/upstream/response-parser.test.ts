import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ANSWERS, FAULTS, MAX_BODY } from "../../test/support/upstream/answers.ts";
import { ResponseParser } from "./response-parser.ts";

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
function parse(pieces: readonly Uint8Array[], parser = new ResponseParser(MAX_BODY)): Told {
  for (const piece of pieces) parser.push(piece);
  parser.end();
  const { result, status, keepAliveSeconds } = parser;
  if (result?.kind === "fault") return { result: result.cause, status, persistent: false, keepAliveSeconds: null };
  if (result === null) return { result, status, persistent: parser.persistent, keepAliveSeconds };
  const { kind, headers, contentType, body } = result;
  const told = { kind, status: result.status, headers, contentType, body: Buffer.from(body).toString("latin1") };
  return { result: told, status, persistent: parser.persistent, keepAliveSeconds };
}

function parseText(text: string): Told {
  return parse([bytesOf(text)]);
}

function cutAt(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const cuts = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...cuts, bytes.length].map((cut, index) => bytes.slice(cuts[index - 1] ?? 0, cut));
}

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

  test("reads each answer's type as it is written, with any type in the one before it", () => {
    const parser = new ResponseParser(MAX_BODY);
    // The second's bytes are the characters of the first.
    const types = [
      ["\u00c3\u0083\u00c2\u00a9", "\u00c3\u00a9"],
      ["\u00c3\u00a9", "\u00e9"],
      ["text/plain", "text/plain"],
      ["text/plain", "text/plain"],
      ["Text/plain", "Text/plain"],
      ["text/plai", "text/plai"],
      ["", ""],
    ];
    for (const [written, read] of types) {
      parser.begin(MAX_BODY);
      const told = parse([bytesOf(`HTTP/1.1 200 OK\r\nContent-Type: ${written}\r\nContent-Length: 0\r\n\r\n`)], parser);
      expect(told.result).toMatchObject({ contentType: read });
    }
  });

  test("reads every answer alike, after any other answer", () => {
    const parser = new ResponseParser(0);
    for (const [text] of [...Object.values(ANSWERS), ...Object.values(FAULTS)]) {
      for (const before of [text, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: timeout=5\r\n\r\nhel"]) {
        parser.begin(MAX_BODY);
        parse([bytesOf(before)], parser);
        parser.begin(MAX_BODY);
        expect(parse([bytesOf(text)], parser)).toEqual(parseText(text));
      }
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

  test("comes to one result for any bytes, wherever they are cut", () => {
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

  test("keeps header lines in order, spelling and repeats, and their values as they arrived", () => {
    const parser = new ResponseParser(MAX_BODY);
    parser.push(Buffer.from("HTTP/1.1 204 OK\r\nx-B:  ü \t\r\nX-a:1\r\nx-B: 2\r\nX-L: ", "utf8"));
    parser.push(bytesOf("\xfc\r\n\r\n"));
    expect(parser.result).toMatchObject({
      headers: [
        ["x-B", "\u00c3\u00bc"],
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
