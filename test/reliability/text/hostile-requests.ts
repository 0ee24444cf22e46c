import { KEYS } from "../../support/gateway.ts";
import { secondsFromNow, signToken } from "../../support/tokens.ts";

/** A request whose head can be made as long as one likes with text that is expensive to read. */
export interface HostileRequest {
  readonly name: string;
  /** The whole request; its head is `byteCount` bytes long, or a few less where a unit of the text does not fit. A token in it is new. */
  readonly build: (byteCount: number, port: number) => Buffer;
}

const CLIENT_PATH = "/ws/client/hubs/chat";
const SEND_PATH = "/ws/api/hubs/chat/messages";

/** Where the text goes in. */
const GAP = "\u0000";

interface HeadParts {
  readonly method?: string;
  readonly path?: string;
  readonly host?: string;
  readonly lines?: readonly string[];
  /** Names of usual lines that are left out, in lower case. */
  readonly without?: readonly string[];
}

/** The head of a handshake; a line that is given replaces the usual one of its name. */
function handshake({ path = CLIENT_PATH, host, lines = [], without = [] }: HeadParts, port: number): string {
  const usual = [
    `Host: ${host ?? `127.0.0.1:${port}`}`,
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
  ].filter((line) => !without.includes(line.slice(0, line.indexOf(":")).toLowerCase()));
  return [`GET ${path} HTTP/1.1`, ...usual, ...lines, "", ""].join("\r\n");
}

function call({ method = "POST", path = SEND_PATH, lines = [] }: HeadParts, port: number): string {
  return [`${method} ${path} HTTP/1.1`, `Host: 127.0.0.1:${port}`, "Content-Length: 0", ...lines, "", ""].join("\r\n");
}

/** Puts as many units into the gap of a head as fit into `byteCount`; a function makes them all different. */
function filled(head: string, unit: string | ((index: number) => string), byteCount: number): Buffer {
  const room = byteCount - head.length + GAP.length;
  let text = "";
  for (let i = 0; ; i++) {
    const next = typeof unit === "string" ? unit : unit(i);
    if (text.length + next.length > room) break;
    text += next;
  }
  return Buffer.from(
    head.replace(GAP, () => text),
    "latin1",
  );
}

type Row = readonly [name: string, parts: HeadParts, unit: string | ((index: number) => string)];

const line = (text: string): HeadParts => ({
  lines: [text],
  without: [text.slice(0, text.indexOf(":")).toLowerCase()],
});

const HANDSHAKES: readonly Row[] = [
  ["a header that nobody reads", line(`X-Own: ${GAP}`), "a"],
  ["Sec-WebSocket-Protocol: spaces inside", line(`Sec-WebSocket-Protocol: a${GAP}b`), " "],
  ["Sec-WebSocket-Protocol: tabs inside", line(`Sec-WebSocket-Protocol: a${GAP}b`), "\t"],
  ["Sec-WebSocket-Protocol: one long name", line(`Sec-WebSocket-Protocol: ${GAP}`), "a"],
  ["Sec-WebSocket-Protocol: commas", line(`Sec-WebSocket-Protocol: a${GAP}b`), ","],
  ["Sec-WebSocket-Protocol: names", line(`Sec-WebSocket-Protocol: ${GAP}a`), (i) => `${i.toString(36)},`],
  ["Sec-WebSocket-Protocol: the same name", line(`Sec-WebSocket-Protocol: ${GAP}a`), "a,"],
  ["X-Forwarded-For: addresses", line(`X-Forwarded-For: ${GAP}1.2.3.4`), "1.1.1.1,"],
  ["X-Forwarded-For: trusted addresses", line(`X-Forwarded-For: ${GAP}127.0.0.1`), "127.0.0.1,"],
  ["X-Forwarded-For: letters", line(`X-Forwarded-For: ${GAP}a`), "a,"],
  ["X-Forwarded-For: spaces inside", line(`X-Forwarded-For: a${GAP}b`), " "],
  ["X-Forwarded-For: digits and dots", line(`X-Forwarded-For: ${GAP}x`), "1."],
  ["X-Forwarded-For: digits", line(`X-Forwarded-For: 1.1.1.1:${GAP}x`), "1"],
  ["X-Forwarded-For: colons in brackets", line(`X-Forwarded-For: [${GAP}x`), ":"],
  ["X-Forwarded-For: bytes beyond ASCII", line(`X-Forwarded-For: ${GAP}`), "\xff,"],
  ["Authorization: spaces", line(`Authorization: Bearer a${GAP}b`), " "],
  ["Authorization: commas", line(`Authorization: Bearer a${GAP}b`), ","],
  ["Authorization: tokens", line(`Authorization: Bearer a${GAP}`), ",Bearer a"],
  ["Authorization: dots", line(`Authorization: Bearer ${GAP}`), "."],
  ["Authorization: one long token", line(`Authorization: Bearer a.${GAP}.a`), "a"],
  ["Host: labels", { host: `${GAP}example` }, "a."],
  ["Host: coded labels", { host: `${GAP}example` }, "xn--a9b."],
  ["Host: digits", { host: `127.0.0.1:${GAP}80` }, "0"],
  ["Host: at signs", { host: `${GAP}example` }, "a:@"],
  ["Origin: letters", line(`Origin: https://${GAP}`), "A"],
  ["Connection: options", line(`Connection: ${GAP}upgrade`), "a,"],
  ["Connection: spaces", line(`Connection: a${GAP},upgrade`), " "],
  ["Upgrade: commas", line(`Upgrade: a${GAP}websocket`), ","],
  ["Sec-WebSocket-Key: one long key", line(`Sec-WebSocket-Key: ${GAP}`), "A"],
  ["Sec-WebSocket-Version: digits", line(`Sec-WebSocket-Version: ${GAP}`), "1"],
  ["X-Client-Cert: colons", line(`X-Client-Cert: A${GAP}B`), ":"],
  ["X-Client-Cert: spaces", line(`X-Client-Cert: A${GAP}B`), " "],
  ["Content-Length: zeros", line(`Content-Length: ${GAP}`), "0"],
  ["query: ampersands", { path: `${CLIENT_PATH}?${GAP}` }, "&"],
  ["query: parameters", { path: `${CLIENT_PATH}?${GAP}` }, (i) => `${i.toString(36)}=&`],
  ["query: escapes", { path: `${CLIENT_PATH}?a=${GAP}` }, "%C3"],
  ["query: plus signs", { path: `${CLIENT_PATH}?hub=${GAP}` }, "+"],
  ["query: quotes", { path: `${CLIENT_PATH}?a=${GAP}` }, '"'],
  ["query: backslashes", { path: `${CLIENT_PATH}?a=${GAP}` }, "\\"],
  ["query: tokens", { path: `${CLIENT_PATH}?${GAP}` }, "access_token=a&"],
  ["query: hubs", { path: `/ws/client?${GAP}` }, "hub=a&"],
  ["path: slashes", { path: `${CLIENT_PATH}${GAP}` }, "/"],
  ["path: dot segments", { path: `${CLIENT_PATH}${GAP}` }, "/.."],
  ["path: letters", { path: `/ws/client/hubs/${GAP}` }, "a"],
  ["path: escapes", { path: `/ws/client/hubs/${GAP}` }, "%2e"],
  ["path of paths: slashes", { path: `/a${GAP}` }, "/"],
  ["path of paths: segments", { path: `/a${GAP}` }, "/a"],
  ["path of paths: letters", { path: `/own/${GAP}` }, "a"],
  ["path of paths: escapes", { path: `/own/${GAP}` }, "%C3"],
  ["path of paths: quotes", { path: `/own/${GAP}` }, '"'],
  ["path: number signs", { path: `${CLIENT_PATH}${GAP}` }, "#"],
];

const CALLS: readonly Row[] = [
  ["REST path: slashes", { path: `/ws/api/hubs/chat/${GAP}` }, "/"],
  ["REST path: parts", { path: `/ws/api/hubs/chat/${GAP}` }, "users/"],
  ["REST path: escapes", { path: `/ws/api/hubs/chat/users/${GAP}/messages` }, "%C3"],
  ["REST query: hubs", { path: `/api/messages?${GAP}` }, "hub=a&"],
  ["REST Authorization: spaces", line(`Authorization: Bearer${GAP}a b`), " "],
  ["REST Authorization: letters", line(`Authorization: Bearer ${GAP} b`), "a"],
  ["REST Authorization: spaces behind", line(`Authorization: Bearer a${GAP}b`), " "],
];

/** A request that has a good token, whose claims or other lines hold the text. */
type SignedRow = readonly [name: string, claims: (text: string) => unknown, unit: string];

/** The backend signs these, of what it was given by its own users. */
const CLAIMS: readonly SignedRow[] = [
  ["claim: spaces inside", (text) => ({ note: `a${text}b` }), " "],
  ["claim: spaces", (text) => ({ note: text }), " "],
  ["claim: commas", (text) => ({ note: text }), ","],
  ["claim: colons", (text) => ({ note: `${text}a` }), ": "],
  ["claim: quotes", (text) => ({ note: text }), '"'],
  ["claim: backslashes", (text) => ({ note: text }), "\\"],
  ["claim: a list of numbers", (text) => ({ note: text.split("").map(Number) }), "1"],
  ["claim: a list under a long name", (text) => ({ [text.slice(0, text.length / 2)]: text.split("") }), "1"],
  ["claim: brackets in brackets", (text) => `{"note":${text}${text.replaceAll("[", "]")}}`, "["],
  ["claim: white space of JSON", (text) => `{"note":[1${text},1]}`, "\n"],
  ["sub: spaces inside", (text) => ({ sub: `a${text}b` }), " "],
  ["aud: spaces inside", (text) => ({ aud: `http://127.0.0.1/ws/a${text}b` }), " "],
  ["aud: controls inside", (text) => ({ aud: `http://127.0.0.1/ws/a${text}b` }), "\u0001"],
  ["aud: dot segments", (text) => ({ aud: `http://127.0.0.1/ws${text}` }), "/%2e"],
  ["aud: slashes", (text) => ({ aud: `http://127.0.0.1/ws${text}` }), "/"],
  ["aud: labels", (text) => ({ aud: `http://${text}example/` }), "xn--a9b."],
  ["aud: a list", (text) => ({ aud: text.split(",") }), "http://a/ws/client,"],
];

function signedRequest([name, claimsOf, unit]: SignedRow, isCall: boolean): HostileRequest {
  const build = (byteCount: number, port: number): Buffer => {
    const path = isCall ? SEND_PATH : CLIENT_PATH;
    const headOf = (text: string): Buffer => {
      const token = signToken(withUsual(claimsOf(text), `http://127.0.0.1:${port}${path}`), { key: KEYS.primary });
      const parts = { lines: [`Authorization: Bearer ${token}`] };
      return Buffer.from((isCall ? call : handshake)(parts, port), "latin1");
    };
    let [least, most] = [0, byteCount];
    while (most - least > 1) {
      const count = Math.floor((least + most) / 2);
      if (headOf(unit.repeat(count)).length <= byteCount) least = count;
      else most = count;
    }
    return headOf(unit.repeat(least));
  };
  return { name: isCall ? `REST token, ${name}` : `token, ${name}`, build };
}

function withUsual(claims: unknown, audience: string): string | Readonly<Record<string, unknown>> {
  // The gateway remembers the tokens of REST calls: each is read once.
  const usual = { sub: "ann", aud: audience, exp: secondsFromNow(3600), jti: crypto.randomUUID() };
  if (typeof claims !== "string") return { ...usual, ...(claims as object) };
  return `${JSON.stringify(usual).slice(0, -1)},${claims.slice(1)}`;
}

/** What a client can send in its handshake, and a caller of the REST API in its head. */
export const HOSTILE_REQUESTS: readonly HostileRequest[] = [
  ...HANDSHAKES.map(([name, parts, unit]) => ({
    name,
    build: (byteCount: number, port: number) => filled(handshake(parts, port), unit, byteCount),
  })),
  ...CALLS.map(([name, parts, unit]) => ({
    name,
    build: (byteCount: number, port: number) => filled(call(parts, port), unit, byteCount),
  })),
  ...CLAIMS.map((row) => signedRequest(row, false)),
  ...CLAIMS.filter(([name]) => name.startsWith("aud")).map((row) => signedRequest(row, true)),
  {
    name: "REST Content-Type: parameters",
    build: (byteCount, port) => filled(typed(`text/plain${GAP}`, port), ";a", byteCount),
  },
  {
    name: "REST Content-Type: spaces inside",
    build: (byteCount, port) => filled(typed(`text/plain;a${GAP}b`, port), " ", byteCount),
  },
];

function typed(type: string, port: number): string {
  const claims = { aud: `http://127.0.0.1:${port}${SEND_PATH}`, exp: secondsFromNow(3600) };
  const token = signToken(claims, { key: KEYS.primary });
  return call({ lines: [`Authorization: Bearer ${token}`, `Content-Type: ${type}`] }, port);
}
