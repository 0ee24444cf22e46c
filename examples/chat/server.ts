/**
 * The chat example's backend: rooms, private messages, who is here. It serves the page too.
 *
 *     page ◀──WebSocket──▶ hubwire ──POST /chat/api/{event}──▶ this file ──REST API──▶ hubwire ──▶ everybody's pages
 *
 * Nothing of hubwire is imported: any HTTP server in any language can do the same.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { SignJWT } from "jose";

const CONNECTION_STRING = process.env["HUBWIRE_CONNECTION_STRING"] ?? "";
const [, ENDPOINT, ACCESS_KEY] = /^Endpoint=(https?:\/\/[^;/]+)\/?;AccessKey=([^;]+)/.exec(CONNECTION_STRING) ?? [];
if (ENDPOINT === undefined || ACCESS_KEY === undefined) {
  console.error("Set HUBWIRE_CONNECTION_STRING to the gateway's: Endpoint=http://…;AccessKey=…;Version=1.0;");
  process.exit(1);
}
const KEY = new TextEncoder().encode(ACCESS_KEY);
const API = `${ENDPOINT}/ws/api/hubs/chat`;
const CLIENT_URL = `${process.env["HUBWIRE_URL"] ?? ENDPOINT}/ws/client/hubs/chat`.replace(/^http/, "ws");
const LOBBY = "lobby";
/** Of people and rooms. One dot or two would be steps in a path. */
const NAME = /^(?!\.{1,2}$)[^\p{Cc}\p{Cs}]{1,40}$/u;

/** What comes up from the page. `to` is a room, or for `tell` a person. */
type Command = { kind: "hello" | "join" | "leave" | "say" | "tell"; to: string; text: string };
/** What goes down to the page. */
type Line =
  | { kind: "notice"; text: string }
  | { kind: "join" | "leave"; to: string }
  | { kind: "say" | "tell"; to: string; from: string; text: string; at: string }
  | { kind: "here"; people: { name: string; rooms: string[] }[] };

/** Who is in which rooms: every connection, from its connect event to its disconnect event. */
const here = new Map<string, { name: string; rooms: Set<string> }>();
let announced = Promise.resolve();

/** Lets a client in under the name that its query gives, and into the lobby; or refuses it: it gets this very answer. */
function connect(request: Request, id: string): Response {
  const name = new URLSearchParams(header(request, "X-ASRS-Client-Query")).get("name")?.trim() ?? "";
  if (!NAME.test(name)) return new Response("A name has 1 to 40 characters, and is no dot or two.", { status: 400 });
  here.set(id, { name, rooms: new Set([LOBBY]) });
  const headers = { "X-ASRS-User-Id": Buffer.from(name).toString("latin1"), "X-ASRS-Connection-Group": LOBBY };
  return answer({ kind: "notice", text: `Welcome, ${name}.` }, { headers });
}

function disconnect(_request: Request, id: string): Response {
  if (here.delete(id)) announce();
  return answer(null);
}

/** Does what a page asks for. What it answers is for that page alone. */
async function message(request: Request, id: string): Promise<Response> {
  const command = parseCommand(await request.text());
  const person = here.get(id);
  if (person === undefined) {
    // The connection is older than this backend process. The page reconnects when it is closed, and joins its rooms again.
    await call("DELETE", `connections/${id}?reason=the%20chat%20was%20away,%20please%20write%20again`);
    return answer(null);
  }
  if (command === null) return answer({ kind: "notice", text: "This chat does not know what that is." });
  const { kind, to, text } = command;
  const line: Line = { kind: "say", to, from: person.name, text, at: new Date().toISOString() };
  switch (kind) {
    case "hello": // Only now, since at its connect event a page cannot receive yet, and would miss what changes next.
      announce();
      return answer(null);
    case "join":
    case "leave":
      await call(kind === "join" ? "PUT" : "DELETE", `groups/${encodeURIComponent(to)}/connections/${id}`);
      person.rooms[kind === "join" ? "add" : "delete"](to);
      announce();
      return answer({ kind, to });
    case "say":
      if (!person.rooms.has(to)) return answer({ kind: "notice", text: `You are not in ${to}.` });
      await call("POST", `groups/${encodeURIComponent(to)}/messages`, line);
      return answer(null);
    case "tell":
      if (!here.values().some(({ name }) => name === to)) return answer({ kind: "notice", text: `${to} is not here.` });
      // The writer gets it too, so that all tabs of that name show the same.
      for (const name of new Set([to, person.name])) {
        await call("POST", `users/${encodeURIComponent(name)}/messages`, { ...line, kind });
      }
      return answer(null);
  }
}

function parseCommand(body: string): Command | null {
  try {
    const { kind, to = LOBBY, text = "" } = JSON.parse(body);
    const isKnown = ["hello", "join", "leave", "say", "tell"].includes(kind);
    return isKnown && typeof to === "string" && NAME.test(to) && typeof text === "string" ? { kind, to, text } : null;
  } catch {
    return null;
  }
}

/** Tells everybody who is here. One call at a time, so that an older list never comes after a newer one. */
function announce(): void {
  const list = () => [...here.values()].map(({ name, rooms }) => ({ name, rooms: [...rooms] }));
  const tell = () => call("POST", "messages", { kind: "here", people: list() });
  announced = announced.then(tell).catch((fault: Error) => console.error(fault.message));
}

/** Calls hubwire's REST API. Errors: rejects unless the answer is a 2xx. */
async function call(method: string, path: string, line: Line | null = null): Promise<void> {
  const url = `${API}/${path}`;
  const token = new SignJWT().setProtectedHeader({ alg: "HS256" }).setAudience(url).setExpirationTime("1 minute");
  const headers = { Authorization: `Bearer ${await token.sign(KEY)}`, "Content-Type": "application/json" };
  const body = line && JSON.stringify(line);
  const response = await fetch(url, { method, headers, body, signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
}

const answer = (line: Line | null, init: ResponseInit = {}) =>
  line === null ? new Response(null, { status: 204 }) : Response.json(line, init);

/** Lets through what hubwire has signed: one of the signatures is ours of the connection's id. */
const signed = (handle: (request: Request, id: string) => Response | Promise<Response>) => (request: Request) => {
  const id = header(request, "X-ASRS-Connection-Id");
  const ours = Buffer.from(`sha256=${createHmac("sha256", KEY).update(id).digest("hex")}`);
  const isOurs = (one: string) => one.length === ours.length && timingSafeEqual(Buffer.from(one, "latin1"), ours);
  const isSigned = header(request, "X-ASRS-Signature").split(",").some(isOurs);
  return isSigned ? handle(request, id) : new Response("The event is not signed with the key.", { status: 401 });
};

/** Bun hands header bytes over as Latin-1; hubwire sends UTF-8. */
const header = (request: Request, name: string) =>
  Buffer.from(request.headers.get(name) ?? "", "latin1").toString("utf8");

const file = (name: string) => () => new Response(Bun.file(new URL(name, import.meta.url)));
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env["PORT"] ?? 7071),
  routes: {
    "/": file("index.html"),
    "/chat.css": file("chat.css"),
    "/chat.js": file("chat.js"),
    "/gateway": () => Response.json({ url: CLIENT_URL }),
    "/:hub/api/connect": { POST: signed(connect) },
    "/:hub/api/message": { POST: signed(message) },
    "/:hub/api/disconnect": { POST: signed(disconnect) },
  },
  fetch: () => new Response("There is nothing here.", { status: 404 }),
  error(fault) {
    console.error(fault.message);
    return answer({ kind: "notice", text: "That failed. Please try again." }, { status: 500 });
  },
});
console.log(`The chat example's page and backend: ${server.url}`);
