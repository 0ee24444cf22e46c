import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { jsonError, Stack } from "../support/stack.ts";

/** Header values of a handshake that go on to the backend, byte for byte. Strings have one char a byte here. */
setDefaultTimeout(60_000);

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ config: { trustedProxies: ["127.0.0.1"] } });
});
afterAll(() => stack.stop());

const UTF8 = Buffer.from("grüß").toString("latin1");
const MIX = `${UTF8}, gr\xfc\xdf`;

let hubCount = 0;

/** What the three events of a connection say under a name, once the client has sent this header. */
async function sentOn(line: string, name: string): Promise<(string | undefined)[]> {
  const hub = `hub${hubCount++}`;
  const client = await stack.open({ path: `/ws/client/hubs/${hub}`, lines: [line] });
  const ofThis = ({ target }: { target: string }) => target.startsWith(`/${hub}/`);
  const connect = await stack.backend.next("connect", ofThis);
  client.text("hello");
  const message = await stack.backend.next("message", ofThis);
  client.close();
  const disconnect = await stack.backend.next("disconnect", ofThis);
  return [connect, message, disconnect].map(({ head }) => head.header(name));
}

test.each([
  ["UTF-8", UTF8, UTF8],
  ["Latin-1", "gr\xfc\xdf", "gr\xfc\xdf"],
  ["both", MIX, MIX],
  ["empty parts", `, ,${UTF8},,\t, 9.9.9.9 ,`, `${UTF8}, 9.9.9.9`],
])("X-Forwarded-For of a trusted proxy: %s", async (_what, chain, sent) => {
  const whole = `${sent}, 127.0.0.1`;
  expect(await sentOn(`X-Forwarded-For: ${chain}`, "X-Forwarded-For")).toEqual([whole, whole, whole]);
});

test("Sec-WebSocket-Protocol", async () => {
  const [connect] = await sentOn(`Sec-WebSocket-Protocol: ${MIX}`, "Sec-WebSocket-Protocol");
  expect(connect).toBe(MIX);
});

test.each([",", " , ,", "a\x7fb", "\x7f"])("Sec-WebSocket-Protocol: %j is 400, and nobody is asked", async (value) => {
  const before = stack.backend.requests.length;
  const answer = await (await stack.request({ lines: [`Sec-WebSocket-Protocol: ${value}`] })).answer();
  expect([answer.status, jsonError(answer.body).target]).toEqual([400, "Sec-WebSocket-Protocol"]);
  expect(stack.backend.requests.length).toBe(before);
});
