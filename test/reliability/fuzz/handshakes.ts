import { KEYS } from "../../support/gateway.ts";
import { secondsFromNow, signToken } from "../../support/tokens.ts";
import type { Dice } from "../support/dice.ts";
import { mutate, nastyText } from "./mutation.ts";

const PATHS = [
  "/ws/client/hubs/chat",
  "/ws/client/hubs/Chat/",
  "/ws/client",
  "/client/hubs/a.b",
  "/client?hub=chat",
  "/ws/client?hubs=chat",
  "/ws/client?hub=a&hub=b",
  "/ws/client/hubs/",
  "/ws/client/hubs/9chat",
  "/ws/client/hubs/chat/more",
  "/ws/client/hubs/%63hat",
  "/ws/client/../client/hubs/chat",
  "//ws/client/hubs/chat",
  "/ws/client/hubs/chat?room=7&x=%zz",
  "http://127.0.0.1/ws/client/hubs/chat",
  "/devices/a%2fb/?x=1",
  "/devices/\xfc%0d%0aX-ASRS-User-Id:root",
  "/devices//",
  "*",
  "/",
];
const GOOD_PATHS = PATHS.slice(0, 6);
const METHODS = ["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "TRACE", "get", "G\tET", ""];
const VERSIONS = ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", ""];
const HOSTS = ["", "localhost", "x:99999", "[::1]", "[::1", "a/b", "user@host", "evil.example", "a b", "\xfc", "x\0y"];

/** Lines that come in the place of a usual one, or in addition to it. */
const LINES = [
  "Upgrade: h2c",
  "Upgrade: websocket, foo",
  "Connection: close",
  "Connection: keep-alive, Upgrade",
  "Sec-WebSocket-Version: 8",
  "Sec-WebSocket-Version: 13, 8",
  "Sec-WebSocket-Key: short",
  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  "Sec-WebSocket-Protocol: a, b,, c",
  "Sec-WebSocket-Protocol: ",
  "Sec-WebSocket-Protocol: \xfc\xff",
  "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8; client_no_context_takeover",
  'Sec-WebSocket-Extensions: permessage-deflate; permessage-deflate; x="',
  "Content-Length: 5",
  "Content-Length: 5, 6",
  "Content-Length: -1",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: gzip",
  "Expect: 100-continue",
  "Origin: https://evil.example",
  "Origin: null",
  "Cookie: a=b",
  "X-Forwarded-For: 1.2.3.4, \xff, ::1",
  `X-Forwarded-For: ${"1.2.3.4,".repeat(200)}`,
  "X-ASRS-User-Id: root",
  "X-ASRS-Hub: other",
  "X-ASRS-Signature: sha256=00",
  "X-Hubwire-Client-Path: /devices/other",
  "Authorization: Basic eDp5",
  "Authorization: Bearer",
  "Authorization: Bearer a.b.c",
  " folded: line",
  "NoColon",
  ": no name",
  "Bad Name: x",
  "Host: second.example",
];

/** A client's handshake, with a few places broken or none. `accepts` is never promised; the answer's form is. */
export function handshakeOf(dice: Dice, port: number): Buffer {
  if (dice.chance(0.05)) return dice.bytes(1 + dice.below(400));
  const isBroken = (probability: number): boolean => dice.chance(probability);
  const path = isBroken(0.5) ? dice.pick(PATHS) : dice.pick(GOOD_PATHS);
  const target = withQuery(path, dice, port);
  const lines = [
    `Host: ${isBroken(0.1) ? dice.pick(HOSTS) : `127.0.0.1:${port}`}`,
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Key: ${dice.bytes(16).toString("base64")}`,
    "Sec-WebSocket-Version: 13",
  ].filter(() => !isBroken(0.03));
  for (let count = dice.below(4); count > 0; count--) lines.splice(dice.below(lines.length + 1), 0, lineOf(dice));
  if (isBroken(0.02)) for (let i = 0; i < 210; i++) lines.push(`X-Many-${i}: ${i}`);
  const method = isBroken(0.06) ? dice.pick(METHODS) : "GET";
  const version = isBroken(0.06) ? dice.pick(VERSIONS) : "HTTP/1.1";
  const end = isBroken(0.04) ? dice.pick(["\n", "\r", "\n\n"]) : "\r\n";
  const head = [`${method} ${target} ${version}`, ...lines, "", ""].join(end);
  const bytes = Buffer.from(
    head + (isBroken(0.1) ? dice.pick(["hello", "5\r\nhello\r\n0\r\n\r\n", "\x81\x00"]) : ""),
    "latin1",
  );
  return isBroken(0.3) ? mutate(bytes, dice) : bytes;
}

function withQuery(path: string, dice: Dice, port: number): string {
  if (dice.chance(0.6)) return path;
  const value = dice.chance(0.5) ? tokenOf(dice, path, port) : nastyText(dice).replace(/[\r\n ]/g, "");
  const name = dice.pick(["access_token", "access%5Ftoken", "hub", "hubs", "room", nastyText(dice).replace(/\s/g, "")]);
  return `${path}${path.includes("?") ? "&" : "?"}${name}=${value}`;
}

function tokenOf(dice: Dice, path: string, port: number): string {
  const sub = dice.pick<unknown>(["ann", "bob", "", 7, null, ["x"], "a\nb", "ü", "x".repeat(600)]);
  const exp = dice.pick<unknown>([secondsFromNow(600), secondsFromNow(600), 1, -1, "never", 1e300]);
  const claims = { sub, exp, aud: `http://127.0.0.1:${port}${path}`, role: nastyText(dice) };
  const token = signToken(claims, { key: dice.chance(0.8) ? KEYS.primary : "other" });
  return dice.chance(0.2) ? mutate(Buffer.from(token), dice).toString("latin1").replace(/\s/g, "") : token;
}

function lineOf(dice: Dice): string {
  if (dice.chance(0.6)) return dice.pick(LINES);
  return `${dice.pick(["X-Own", "Accept", "Cookie", "Origin", "Sec-WebSocket-Protocol"])}: ${nastyText(dice)}`;
}
