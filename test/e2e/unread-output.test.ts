import { expect, setDefaultTimeout, test } from "bun:test";
import { within } from "../support/deadline.ts";
import { RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { UnreadGateway } from "../support/unread-gateway.ts";

/** A gateway whose output nobody reads, and which finds no room for its first line. */
setDefaultTimeout(90_000);

test.each([
  ["standard error", false],
  ["standard error and standard output", true],
])("%s: it starts, lets clients in and refuses them, carries messages, and ends", async (_what, isPrinting) => {
  await using backend = await RawBackend.start();
  const upstreams = [{ urlTemplate: `${backend.url}/{hub}/api/{event}` }];
  await using gateway = await UnreadGateway.start(
    { upstreams, hubs: { closed: { anonymous: "deny" } } },
    { isPrinting },
  );
  const { port } = gateway;
  using client = await RawWebSocket.open({ port });
  for (let i = 0; i < 200; i++) {
    using refused = await RawWebSocket.request({ port, path: `/ws/client/hubs/closed${i % 2 === 0 ? "" : "%20"}` });
    expect([400, 401]).toContain((await refused.answer()).status);
  }
  client.text("hello");
  expect(await client.nextText()).toBe("hello");
  const { code, text } = await gateway.end({ isRead: false });
  expect([code, text.trim()]).toEqual([0, ""]);
});

test("what waits is written where somebody reads before the end", async () => {
  await using gateway = await UnreadGateway.start({});
  const { code, text } = await gateway.end({ isRead: true });
  const messages = text
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { msg: string }).msg);
  expect([code, messages.at(-1)]).toEqual([0, "stopping"]);
  expect(messages).toContain("listening");
});

test("a configuration that cannot be used ends it with 2, though nobody reads the sentence", async () => {
  await using gateway = UnreadGateway.launch({ listen: { port: -1 } });
  expect(await within(gateway.child.exited, "the exit")).toBe(2);
});

test("a port that is taken ends it with 1, though nobody reads the sentence", async () => {
  await using backend = await RawBackend.start();
  await using gateway = UnreadGateway.launch({ listen: { port: Number(new URL(backend.url).port) } });
  expect(await within(gateway.child.exited, "the exit")).toBe(1);
});
