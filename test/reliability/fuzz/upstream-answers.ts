import type { Dice } from "../support/dice.ts";
import { type Call, orderly, type Reply } from "../support/ledger-backend.ts";
import { mutate, nastyText, split } from "./mutation.ts";

const STATUS_LINES = [
  "HTTP/1.1 200 OK",
  "HTTP/1.1 200",
  "HTTP/1.1  200 OK",
  "HTTP/1.0 200 OK",
  "HTTP/2 200",
  "HTTP/1.1 2000 OK",
  "HTTP/1.1 20 OK",
  "HTTP/1.1 -20 OK",
  "HTTP/1.1 000 OK",
  "HTTP/1.1 abc OK",
  "http/1.1 200 OK",
  "ICY 200 OK",
  "",
  "HTTP/1.1 101 Switching Protocols",
  "HTTP/1.1 204 No Content",
  "HTTP/1.1 206 Partial",
  "HTTP/1.1 304 Not Modified",
  "HTTP/1.1 307 Elsewhere",
  "HTTP/1.1 400 Bad",
  "HTTP/1.1 403 \xff\xfe",
  "HTTP/1.1 404 Not Found",
  "HTTP/1.1 429 Slow",
  "HTTP/1.1 500 Bad",
  "HTTP/1.1 503 Bad",
  "HTTP/1.1 999 Odd",
];
const GOOD_STATUS_LINES = ["HTTP/1.1 200 OK", "HTTP/1.1 201 Created", "HTTP/1.1 403 Forbidden"];

const LINES = [
  "X-ASRS-User-Id: ann",
  "X-ASRS-User-Id: bob",
  "X-ASRS-User-Id: ",
  "X-ASRS-User-Id: \xff",
  "X-ASRS-Connection-Group: red",
  "X-ASRS-Connection-Group: red, blue,, green",
  `X-ASRS-Connection-Group: ${"g,".repeat(2000)}`,
  "X-ASRS-Connection-Group: \x01",
  "Sec-WebSocket-Protocol: a",
  "Sec-WebSocket-Protocol: ",
  "Content-Encoding: gzip",
  "Content-Type: text/plain",
  "Content-Type: application/octet-stream",
  "Connection: close",
  "Connection: keep-alive, X-Own",
  "Keep-Alive: timeout=0",
  "Set-Cookie: a=b",
  "Location: http://127.0.0.1:1/",
  "Retry-After: -5",
  "Trailer: X-Own",
  "Upgrade: websocket",
  "Injected: x\ry",
  "Injected: x\0y",
  " folded: line",
  "NoColon",
  ": no name",
  "Bad Name: x",
];
const FRAMINGS = [
  "Content-Length: 0",
  "Content-Length: 3",
  "Content-Length: 10",
  "Content-Length: -1",
  "Content-Length: 1, 1",
  "Content-Length: 1, 2",
  "Content-Length: 99999999999999999999",
  "Content-Length: 0x5",
  "Content-Length: 5\r\nContent-Length: 6",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: chunked\r\nContent-Length: 5",
  "Transfer-Encoding: identity",
];
const BODIES = [
  "",
  "hello",
  "5\r\nhello\r\n0\r\n\r\n",
  "5;x=y\r\nhello\r\n0\r\nX-Own: 1\r\n\r\n",
  "zz\r\n",
  "-1\r\nx",
  "\xff\xfe",
];
const INTERIM = ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", "HTTP/1.1 101 Up\r\n\r\n"];

/** What a backend answers to one event: right, broken in a few places, or noise; then the connection stays, ends or is reset. */
export function upstreamAnswerOf(dice: Dice, event: Call["event"]): Reply {
  // Many disconnects are answered well, or there would be little else than repeats of them.
  if (event === "disconnect" && dice.chance(0.5)) return orderly(204);
  if (dice.chance(0.15))
    return orderly(dice.pick([200, 204, 403, 500]), ["X-ASRS-User-Id: ann"], dice.pick(BODIES.slice(0, 2)));
  const bytes = dice.chance(0.05) ? dice.bytes(1 + dice.below(300)) : answerBytes(dice);
  // One that neither ends nor is whole costs the gateway its whole timeout, so it is rare.
  const ending = dice.chance(0.1) ? "keep" : dice.chance(0.8) ? "end" : "reset";
  return { pieces: split(bytes, dice), ending, accepted: false };
}

function answerBytes(dice: Dice): Buffer {
  const isBroken = (probability: number): boolean => dice.chance(probability);
  const lines = [
    isBroken(0.3) ? dice.pick(STATUS_LINES) : dice.pick(GOOD_STATUS_LINES),
    ...(isBroken(0.1) ? [] : ["X-ASRS-User-Id: ann"]),
    ...Array.from({ length: dice.below(4) }, () => (isBroken(0.7) ? dice.pick(LINES) : `X-Own: ${nastyText(dice)}`)),
    ...(isBroken(0.03) ? Array.from({ length: 300 }, (_, i) => `X-Many-${i}: ${i}`) : []),
    ...(isBroken(0.02) ? [`X-Huge: ${"h".repeat(dice.pick([16_000, 70_000, 200_000]))}`] : []),
  ];
  const isChunked = dice.chance(0.3);
  const body = isBroken(0.3) ? dice.pick(BODIES) : dice.pick(BODIES.slice(0, 2));
  const framed = isChunked ? "5\r\nhello\r\n0\r\n\r\n" : body;
  const good = isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${Buffer.byteLength(body, "latin1")}`;
  lines.push(isBroken(0.3) ? dice.pick(FRAMINGS) : good);
  const end = isBroken(0.04) ? "\n" : "\r\n";
  const before = isBroken(0.1) ? dice.pick(INTERIM).repeat(dice.pick([1, 1, 2, 50])) : "";
  const surplus = isBroken(0.05) ? "HTTP/1.1 200 OK\r\nX-ASRS-User-Id: smuggled\r\nContent-Length: 0\r\n\r\n" : "";
  const bytes = Buffer.from(before + [...lines, "", ""].join(end) + framed + surplus, "latin1");
  return isBroken(0.25) ? mutate(bytes, dice) : bytes;
}
