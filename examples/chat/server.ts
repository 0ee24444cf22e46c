/**
 * The chat example's backend: answers the events that hubwire posts, and serves the page.
 *
 *     page ──WebSocket──▶ hubwire ──POST /{hub}/api/{event}──▶ this file
 *      ▲                                                          │
 *      └────────────── the answer's body, as a message ◀──────────┘
 *
 * Nothing of hubwire is imported: any HTTP server in any language can do the same.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

const HOST = "127.0.0.1";
const PORT = Number(process.env["PORT"] ?? 7071);
const HUBWIRE_URL = process.env["HUBWIRE_URL"] ?? "http://127.0.0.1:8080";
/** Signs every event. Null where no connection string was given: then nobody's events are refused. */
const ACCESS_KEY = /AccessKey=([^;]+)/.exec(process.env["HUBWIRE_CONNECTION_STRING"] ?? "")?.[1] ?? null;
const PAGE = readFileSync(new URL("index.html", import.meta.url));
/** The page loads nothing from elsewhere and talks to this backend and to WebSockets only. */
const PAGE_POLICY =
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self' ws: wss:";
const EVENT_PATH = /^\/[^/]+\/api\/(connect|message|disconnect)$/;
const NAME = /^[^\p{Cc}]{1,40}$/u;

/** What goes down to the page, one WebSocket message each. */
type Line =
  | { readonly kind: "notice"; readonly text: string }
  | { readonly kind: "message"; readonly from: string; readonly text: string; readonly at: string };

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [path = "/"] = (request.url ?? "/").split("?");
  if (request.method === "GET" && path === "/") {
    reply(response, 200, PAGE, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": PAGE_POLICY });
  } else if (request.method === "GET" && path === "/gateway") {
    const url = `${HUBWIRE_URL.replace(/^http/, "ws")}/ws/client/hubs/chat`;
    reply(response, 200, JSON.stringify({ url }), { "Content-Type": "application/json" });
  } else {
    const event = request.method === "POST" ? EVENT_PATH.exec(path)?.[1] : undefined;
    // Read to its end even where it is not used, so that hubwire can use the connection again.
    const body = await readBody(request);
    if (event === undefined) reply(response, 404, "There is nothing here.");
    else if (!isSigned(request)) reply(response, 401, "The event's signature is missing or wrong.");
    else if (event === "connect") connect(request, response);
    else if (event === "message") message(request, response, body);
    else reply(response, 204);
  }
}

/** Lets a client in under the name that its query gives, or refuses it: the client then gets this very answer. */
function connect(request: IncomingMessage, response: ServerResponse): void {
  const name = new URLSearchParams(header(request, "x-asrs-client-query")).get("name")?.trim() ?? "";
  if (!NAME.test(name)) {
    reply(response, 400, "A name has 1 to 40 characters and no control characters.");
    return;
  }
  const welcome = `Welcome, ${name}. Until hubwire's REST API lands, your messages come back to you only.`;
  replyLine(response, { kind: "notice", text: welcome }, { "X-ASRS-User-Id": Buffer.from(name).toString("latin1") });
}

/** Answers the sender. Reaching everybody else in the hub takes hubwire's REST API, which is not there yet. */
function message(request: IncomingMessage, response: ServerResponse, body: Buffer): void {
  if (request.headers["content-type"] !== "text/plain") {
    replyLine(response, { kind: "notice", text: "This chat takes text messages only." });
    return;
  }
  const from = header(request, "x-asrs-user-id");
  replyLine(response, { kind: "message", from, text: body.toString("utf8"), at: new Date().toISOString() });
}

/** Whether hubwire sent the event: one of the signatures is ours of the connection's id. */
function isSigned(request: IncomingMessage): boolean {
  if (ACCESS_KEY === null) return true;
  const hmac = createHmac("sha256", ACCESS_KEY).update(header(request, "x-asrs-connection-id")).digest("hex");
  const expected = Buffer.from(`sha256=${hmac}`);
  return header(request, "x-asrs-signature")
    .split(",")
    .map((signature) => Buffer.from(signature.trim()))
    .some((given) => given.length === expected.length && timingSafeEqual(given, expected));
}

/** Node hands header bytes over as Latin-1; hubwire sends UTF-8. */
function header(request: IncomingMessage, name: string): string {
  return Buffer.from(String(request.headers[name] ?? ""), "latin1").toString("utf8");
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function replyLine(response: ServerResponse, line: Line, headers: Readonly<Record<string, string>> = {}): void {
  reply(response, 200, JSON.stringify(line), { "Content-Type": "application/json", ...headers });
}

function reply(response: ServerResponse, status: number, body: string | Buffer = "", headers = {}): void {
  const type = status === 204 ? {} : { "Content-Type": "text/plain; charset=utf-8" };
  response.writeHead(status, { ...type, "X-Content-Type-Options": "nosniff", ...headers }).end(body);
}

const server = createServer((request, response) => {
  // Only a request that broke off ends here; nobody is left to answer.
  answer(request, response).catch(() => response.destroy());
});
server.on("error", (error) => {
  console.error(`chat example: ${error.message}`);
  process.exit(1);
});
server.listen(PORT, HOST, () => console.log(`The chat example's page and backend: http://${HOST}:${PORT}/`));
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}
