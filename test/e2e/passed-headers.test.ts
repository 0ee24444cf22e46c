import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { acceptAs, type RecordedRequest, type Script } from "../support/raw-backend.ts";
import { jsonError, Stack } from "../support/stack.ts";

/** PROTOCOL.md, "Headers for the client": what `passResponseHeaders` lists goes from a 2xx to connect to the client's 101. */
setDefaultTimeout(60_000);

const NAMES = ["Set-Cookie", "x-tenant", "Link", "Server"];
/** As in core/connect-decision.ts. */
const MAX_BYTES = 16_384;

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({
    upstreams: [{ hubPattern: "plain" }, { passResponseHeaders: NAMES }],
  });
});
afterAll(() => stack.stop());

/** The head of the answer to a client whose connect event is answered with these lines, one char a byte. */
async function headFor(lines: readonly string[], options: Parameters<Stack["request"]>[0] = {}) {
  stack.backend.onConnect = (exchange) =>
    exchange.raw(["HTTP/1.1 200 OK", "X-ASRS-User-Id: alice", ...lines, "Content-Length: 0", "", ""].join("\r\n"));
  const client = await stack.request(options);
  const { status, head } = await client.answer();
  client.destroy();
  stack.behave();
  expect(status).toBe(101);
  return head;
}

const ofNames = (head: { all(name: string): string[] }, names: readonly string[] = NAMES) =>
  names.flatMap((name) => head.all(name).map((value) => `${name}: ${value}`));

test("the 101 has them: cookies in a line each, other lines joined, all others left out", async () => {
  const cookies = ["a=1; Path=/; HttpOnly", "b=2; Expires=Wed, 09 Jun 2027 10:18:14 GMT", "a=3"];
  const lines = [
    ...cookies.map((one) => `set-cookie: ${one}`),
    "X-Tenant: blue",
    "X-TENANT: red",
    "X-Other: no",
    "Link: <a>",
  ];
  const head = await headFor(lines);
  expect(ofNames(head)).toEqual([...cookies.map((one) => `Set-Cookie: ${one}`), "x-tenant: blue, red", "Link: <a>"]);
  expect(head.all("x-other")).toEqual([]);
});

test("a 101 without them is as it was, and so is one of an entry that lists none", async () => {
  const names = (head: { readonly names: readonly string[] }) => head.names.map((name) => name.toLowerCase()).sort();
  const usual = ["connection", "date", "sec-websocket-accept", "upgrade"];
  expect(names(await headFor([]))).toEqual(usual);
  expect(names(await headFor(["Set-Cookie: a=1"], { path: "/ws/client/hubs/plain" }))).toEqual(usual);
});

test.each([
  ["UTF-8", Buffer.from("grüß").toString("latin1")],
  ["Latin-1", "gr\xfc\xdf\x80\xff"],
  ["a tab", "a\tb"],
  ["nothing", ""],
])("values pass byte for byte: %s", async (_what, value) => {
  expect((await headFor([`X-Tenant: ${value}`])).all("x-tenant")).toEqual([value]);
});

test("what Connection names is for one hop and left out", async () => {
  const head = await headFor(["Connection: keep-alive, X-Tenant", "X-Tenant: hop", "Set-Cookie: a=1"]);
  expect(ofNames(head)).toEqual(["Set-Cookie: a=1"]);
});

test("the subprotocol stays the one that was chosen, or none", async () => {
  const lines = ["Sec-WebSocket-Protocol: v1, v2"];
  const chosen = await headFor(["Sec-WebSocket-Protocol: v2", "Set-Cookie: a=1"], { lines });
  expect([chosen.all("sec-websocket-protocol"), chosen.all("set-cookie")]).toEqual([["v2"], ["a=1"]]);
  const none = await headFor(["Set-Cookie: a=1"], { lines });
  expect([none.all("sec-websocket-protocol"), none.all("set-cookie")]).toEqual([[], ["a=1"]]);
});

test("the connection works, and its first message comes", async () => {
  stack.backend.onConnect = acceptAs("alice", ["Set-Cookie: a=1"], "welcome");
  const client = await stack.open();
  expect(await client.nextText()).toBe("welcome");
  client.text("hello");
  expect(await client.nextText()).toBe("hello");
  client.destroy();
  stack.behave();
});

describe("their length", () => {
  const cookie = (bytes: number) => `Set-Cookie: ${"c".repeat(bytes - "Set-Cookie: \r\n".length)}`;

  test(`of ${MAX_BYTES} bytes in all passes`, async () => {
    const lines = [cookie(10_000), "X-Tenant: blue", cookie(MAX_BYTES - 10_000 - "X-Tenant: blue\r\n".length)];
    expect(lines.join("\r\n").length + "\r\n".length).toBe(MAX_BYTES);
    expect(ofNames(await headFor(lines)).toSorted()).toEqual(
      lines.map((line) => line.replace("X-T", "x-t")).toSorted(),
    );
  });

  test("of one byte more is 502, and a disconnect event names the user", async () => {
    const answers: Script = acceptAs("alice", [cookie(10_000), cookie(MAX_BYTES - 10_000 + 1)], "welcome");
    stack.backend.onConnect = answers;
    const client = await stack.request();
    const answer = await client.answer();
    stack.behave();
    expect(answer.status).toBe(502);
    expect(jsonError(answer.body)).toMatchObject({ code: "upstream_failed", target: "passResponseHeaders" });
    expect(answer.head.all("set-cookie")).toEqual([]);
    const id = (await stack.backend.next("connect", isLong)).header("X-ASRS-Connection-Id");
    const disconnect = await stack.backend.next("disconnect", ({ head }) => head.header("X-ASRS-Connection-Id") === id);
    expect(disconnect.header("X-ASRS-User-Id")).toBe("alice");
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("handshake failed");
    expect(disconnect.head.all("x-hubwire-connect-outcome")).toEqual([]);
  });

  test("of headers that are not listed does not count", async () => {
    expect(ofNames(await headFor([`X-Other: ${"o".repeat(40_000)}`, "Set-Cookie: a=1"]))).toEqual(["Set-Cookie: a=1"]);
  });
});

const isLong = ({ ordinal }: RecordedRequest) => ordinal === stack.backend.of("connect").at(-1)?.ordinal;

test("a refusal has its own headers, as without the option", async () => {
  stack.backend.onConnect = (exchange) => exchange.reply(403, ["Set-Cookie: a=1", "Set-Cookie: b=2", "X-Other: yes"]);
  const answer = await (await stack.request()).answer();
  stack.behave();
  expect([answer.status, answer.head.all("set-cookie"), answer.head.all("x-other")]).toEqual([
    403,
    ["a=1", "b=2"],
    ["yes"],
  ]);
});

test("a reload brings and ends them", async () => {
  await using other = await Stack.start();
  const upstream = { urlTemplate: `${other.backend.url}/{hub}/api/{event}` };
  const cookies = async () => {
    other.backend.onConnect = acceptAs("alice", ["Set-Cookie: a=1"]);
    const client = await other.request();
    const { head } = await client.answer();
    client.destroy();
    return head.all("set-cookie");
  };
  expect(await cookies()).toEqual([]);
  other.gateway.reload({ upstreams: [{ ...upstream, passResponseHeaders: ["set-cookie"] }] });
  expect(await cookies()).toEqual(["a=1"]);
  other.gateway.reload({ upstreams: [upstream] });
  expect(await cookies()).toEqual([]);
});
