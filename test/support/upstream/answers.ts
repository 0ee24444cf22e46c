import { MAX_HEAD_BYTES, MAX_HEADER_LINES } from "../../../src/upstream/response-head.ts";
import { MAX_CHUNK_LINE_BYTES } from "../../../src/upstream/response-parser.ts";

/** The longest body that these tables are made for. */
export const MAX_BODY = 64;

const lines = (count: number): string => "A: b\r\n".repeat(count);

/** The head of an answer in chunks. */
const CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/** A head of so many bytes, its empty line included. */
function headOf(byteCount: number): string {
  const [start, end] = ["HTTP/1.1 204 OK\r\nX: ", "\r\n\r\n"];
  return start + "y".repeat(byteCount - start.length - end.length) + end;
}

/** An answer in chunks whose head and trailers have so many bytes together, empty lines included. */
function trailersOf(byteCount: number): string {
  const [head, start, end] = [CHUNKED, "X: ", "\r\n\r\n"];
  return `${head}0\r\n${start}${"y".repeat(byteCount - head.length - start.length - end.length)}${end}`;
}

/** An answer whose only chunk is announced by a line of so many bytes, CRLF included. */
function chunkLineOf(byteCount: number): string {
  return `${CHUNKED}1;${"e".repeat(byteCount - 4)}\r\na\r\n0\r\n\r\n`;
}

/** Answers with their names, and what they come to. */
export const ANSWERS: Record<string, readonly [text: string, status: number, body: string, persistent: boolean]> = {
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
  "204 that names a length": ["HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, "", false],
  "204 that names a length of 0": ["HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, "", true],
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
  "Connection: close in a second line": [
    "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
    200,
    "a",
    false,
  ],
  "HTTP/1.0 that says keep-alive and close": [
    "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 1\r\n\r\na",
    200,
    "a",
    false,
  ],
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
  "a coded body, which is handed over as it came": [
    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
    200,
    "ab",
    true,
  ],
  "as many header lines as may be": [`HTTP/1.1 204 OK\r\n${lines(MAX_HEADER_LINES)}\r\n`, 204, "", true],
  "a head of the greatest length": [headOf(MAX_HEAD_BYTES), 204, "", true],
  "a head and trailers of the greatest length together": [trailersOf(MAX_HEAD_BYTES), 200, "", true],
  "the longest line before a chunk": [chunkLineOf(MAX_CHUNK_LINE_BYTES), 200, "a", true],
  "as many trailers as may be": [`${CHUNKED}0\r\n${lines(MAX_HEADER_LINES)}\r\n`, 200, "", true],
  "204 with chunks, which it cannot have": [
    "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    204,
    "",
    false,
  ],
  "a redirect": ["HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n", 302, "", true],
};

/** Broken answers, their cause, and the status that was seen. */
export const FAULTS: Record<string, readonly [text: string, cause: string, status: number | null]> = {
  "nothing at all": ["", "reset", null],
  garbage: ["garbage\r\n\r\n", "malformed", null],
  "an empty line first": ["\r\nHTTP/1.1 200 OK\r\n\r\n", "malformed", null],
  "another protocol": ["HTTP/2 200\r\n\r\n", "malformed", null],
  "a status of two digits": ["HTTP/1.1 20 OK\r\n\r\n", "malformed", null],
  "an invalid status": ["HTTP/1.1 999 Odd\r\n\r\n", "malformed", null],
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
  "a head one byte over its limit": [headOf(MAX_HEAD_BYTES + 1), "malformed", 204],
  "a head and trailers one byte over their limit": [trailersOf(MAX_HEAD_BYTES + 1), "malformed", 200],
  "a line before a chunk that is a byte too long": [chunkLineOf(MAX_CHUNK_LINE_BYTES + 1), "malformed", 200],
  "one trailer too many": [`${CHUNKED}0\r\n${lines(MAX_HEADER_LINES + 1)}\r\n`, "malformed", 200],
  "lengths that differ in one line": ["HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab", "malformed", 200],
  "lengths that differ in their zeros": [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 01\r\n\r\na",
    "malformed",
    200,
  ],
  "a length in hexadecimal": ["HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na", "malformed", 200],
  "a folded length": ["HTTP/1.1 200 OK\r\nContent-Length:\r\n 1\r\n\r\na", "malformed", 200],
  "chunked twice": [
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "malformed",
    200,
  ],
  "a signed chunk size": [`${CHUNKED}+1\r\na\r\n0\r\n\r\n`, "malformed", 200],
  "a negative chunk size": [`${CHUNKED}-1\r\na\r\n0\r\n\r\n`, "malformed", 200],
  "a chunk size with 0x": [`${CHUNKED}0x1\r\na\r\n0\r\n\r\n`, "malformed", 200],
  "a chunk size behind a blank": [`${CHUNKED} 1\r\na\r\n0\r\n\r\n`, "malformed", 200],
  "a chunk size beyond counting": [`${CHUNKED}${"f".repeat(400)}\r\n`, "too-large", 200],
  "a chunk size that wraps at 32 bits": [`${CHUNKED}100000001\r\na\r\n0\r\n\r\n`, "too-large", 200],
  "a chunk that ends without CRLF": [`${CHUNKED}1\r\na0\r\n\r\n`, "malformed", 200],
  "a folded trailer": [`${CHUNKED}0\r\nX: y\r\n z\r\n\r\n`, "malformed", 200],
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
  "an invalid chunk size": ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "malformed", 200],
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
  "an invalid trailer": [
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
