import type { BackendEvent } from "../../support/raw-backend.ts";

/** An upstream's answer to one event that can be made as long as one likes with text that is expensive to read. */
export interface HostileAnswer {
  readonly name: string;
  readonly event: Exclude<BackendEvent, "other">;
  /** Head and body together are `byteCount` bytes long, or a few less. */
  readonly build: (byteCount: number) => Buffer;
}

/** Where the text goes in. */
const GAP = "\u0000";

/** Most header lines of an answer, without the few that each has. */
const LINES = 240;

type Unit = string | ((index: number) => string);

function filled(text: string, unit: Unit, byteCount: number): Buffer {
  const room = byteCount - text.length + GAP.length;
  let fill = "";
  for (let i = 0; ; i++) {
    const next = typeof unit === "string" ? unit : unit(i);
    if (fill.length + next.length > room) break;
    fill += next;
  }
  return Buffer.from(
    text.replace(GAP, () => fill),
    "latin1",
  );
}

const answer = (...lines: readonly string[]): string =>
  ["HTTP/1.1 200 OK", "X-ASRS-User-Id: ann", ...lines, "Content-Length: 0", "", ""].join("\r\n");

/** The same header on very many lines, so long that all of them together make up the answer. */
function lines(name: string, unit: string, status = "200 OK"): (byteCount: number) => Buffer {
  return (byteCount) => {
    const head = (value: string): string =>
      [`HTTP/1.1 ${status}`, ...Array<string>(LINES).fill(`${name}: ${value}`), "Content-Length: 0", "", ""].join(
        "\r\n",
      );
    const room = Math.floor((byteCount - head("").length) / LINES);
    return Buffer.from(head(unit.repeat(room / unit.length)), "latin1");
  };
}

type Row = readonly [name: string, text: string, unit: Unit];

const CONNECT_HEADS: readonly Row[] = [
  ["a header that nobody reads", answer(`X-Own: ${GAP}`), "a"],
  ["X-ASRS-User-Id: spaces inside", answer(`X-ASRS-User-Id: a${GAP}b`), " "],
  ["X-ASRS-User-Id: bytes beyond ASCII", answer(`X-ASRS-User-Id: ${GAP}`), "\xc3\xa9"],
  ["X-ASRS-Connection-Group: spaces inside", answer(`X-ASRS-Connection-Group: a${GAP}b`), " "],
  ["X-ASRS-Connection-Group: tabs inside", answer(`X-ASRS-Connection-Group: a${GAP}b`), "\t"],
  ["X-ASRS-Connection-Group: commas", answer(`X-ASRS-Connection-Group: a${GAP}b`), ","],
  ["X-ASRS-Connection-Group: groups", answer(`X-ASRS-Connection-Group: ${GAP}a`), (i) => `${i.toString(36)},`],
  ["Sec-WebSocket-Protocol: spaces inside", answer(`Sec-WebSocket-Protocol: a${GAP}b`), " "],
  ["Content-Type: spaces inside", answer(`Content-Type: a${GAP}b`), " "],
  ["Content-Type: parameters", answer(`Content-Type: application/octet-stream${GAP}`), ";a"],
  ["Keep-Alive: spaces", answer(`Keep-Alive: timeout${GAP}x`), " "],
  ["Keep-Alive: names", answer(`Keep-Alive: ${GAP}x`), ";timeout "],
  ["Keep-Alive: parameters", answer(`Keep-Alive: ${GAP}x`), "a,"],
  ["Connection: options", answer(`Connection: ${GAP}keep-alive`), "a,"],
  ["Connection: spaces", answer(`Connection: a${GAP}b`), " "],
  ["Content-Length: numbers", answer(`Content-Length: 0${GAP}`), ",0"],
  ["Content-Encoding: codings", answer(`Content-Encoding: ${GAP}identity`), "identity,"],
  ["status line: a long reason", `HTTP/1.1 200 ${GAP}\r\nX-ASRS-User-Id: ann\r\nContent-Length: 0\r\n\r\n`, "a"],
  ["interim answers", `${GAP}${answer()}`, "HTTP/1.1 103 Early\r\n\r\n"],
  ["no end of the head", `HTTP/1.1 200 OK\r\nX-Own: ${GAP}`, "\ra"],
  ["relayed: Connection names", `HTTP/1.1 403 No\r\nConnection: ${GAP}a\r\nContent-Length: 0\r\n\r\n`, "a,"],
  ["relayed: bytes beyond ASCII", `HTTP/1.1 403 No\r\nX-Own: ${GAP}\r\nContent-Length: 0\r\n\r\n`, "\xc3\xa9"],
];

const CHUNKED = "HTTP/1.1 200 OK\r\nX-ASRS-User-Id: ann\r\nTransfer-Encoding: chunked\r\n\r\n";

const CONNECT_BODIES: readonly Row[] = [
  ["chunks of one byte", `${CHUNKED}${GAP}0\r\n\r\n`, "1\r\na\r\n"],
  ["chunks with extensions", `${CHUNKED}${GAP}0\r\n\r\n`, `1;${"a=b;".repeat(500)}\r\na\r\n`],
  ["trailers", `${CHUNKED}0\r\n${GAP}\r\n`, `X-Own: ${"a".repeat(500)}\r\n`],
  ["no length", `HTTP/1.0 200 OK\r\nX-ASRS-User-Id: ann\r\n\r\n${GAP}`, "a"],
];

const REST_OF_EVENTS: readonly (readonly [HostileAnswer["event"], Row])[] = [
  ["message", ["message: Content-Type: spaces", answer(`Content-Type: ${GAP}x`), " "]],
  ["message", ["message: Content-Type: spaces inside", answer(`Content-Type: a${GAP}b`), " "]],
  ["disconnect", ["Retry-After: digits", `HTTP/1.1 503 No\r\nRetry-After: ${GAP}\r\nContent-Length: 0\r\n\r\n`, "9"]],
  ["disconnect", ["Retry-After: spaces", `HTTP/1.1 503 No\r\nRetry-After: 9${GAP}9\r\nContent-Length: 0\r\n\r\n`, " "]],
  [
    "disconnect",
    ["Retry-After: dates", `HTTP/1.1 503 No\r\nRetry-After: ${GAP}\r\nContent-Length: 0\r\n\r\n`, "1 Jan "],
  ],
  [
    "disconnect",
    ["Retry-After: brackets", `HTTP/1.1 503 No\r\nRetry-After: ${GAP}a\r\nContent-Length: 0\r\n\r\n`, "("],
  ],
];

/** What an upstream can answer. */
export const HOSTILE_ANSWERS: readonly HostileAnswer[] = [
  ...[...CONNECT_HEADS, ...CONNECT_BODIES].map(([name, text, unit]) => ({
    name,
    event: "connect" as const,
    build: (byteCount: number) => filled(text, unit, byteCount),
  })),
  ...REST_OF_EVENTS.map(([event, [name, text, unit]]) => ({
    name,
    event,
    build: (byteCount: number) => filled(text, unit, byteCount),
  })),
  { name: "Transfer-Encoding on many lines", event: "connect", build: lines("Transfer-Encoding", "a,") },
  { name: "Content-Length on many lines", event: "connect", build: lines("Content-Length", "0,") },
  { name: "X-ASRS-Connection-Group on many lines", event: "connect", build: lines("X-ASRS-Connection-Group", "a,") },
  { name: "relayed: one name on many lines", event: "connect", build: lines("X-Own", "a", "403 No") },
  { name: "relayed: cookies", event: "connect", build: lines("Set-Cookie", "a", "403 No") },
];
