import { expect, test } from "bun:test";
import { createServer } from "node:net";
import { within } from "../../test/support/deadline.ts";
import { greeted } from "./greeting.ts";

const never = new AbortController().signal;

/** A server that takes connections and says this; nothing where it is empty. */
async function startServer(text: string) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    if (text !== "") socket.write(text);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { url: `nats://127.0.0.1:${address.port}`, [Symbol.dispose]: () => void server.close() };
}

function refusalOf(promise: Promise<void>): Promise<string> {
  const settled = promise.then(
    () => "it greeted",
    (error: Error) => error.message,
  );
  return within(settled, "the end");
}

test("any server that greets is enough", async () => {
  using silent = await startServer("");
  using speaking = await startServer("INFO {}\r\n");
  await within(greeted([silent.url, speaking.url], 10_000, never), "the greeting");
});

test("a server that says nothing is given up in time", async () => {
  using silent = await startServer("");
  expect(await refusalOf(greeted([silent.url], 50, never))).toBe("timeout");
});

test("a name that is not looked up in time is given up too", async () => {
  const hang = () => new Promise<never>(() => {});
  expect(await refusalOf(greeted(["nats://name.test"], 50, never, hang))).toBe("timeout");
});

test("the end of the link ends it at once", async () => {
  using silent = await startServer("");
  const end = new AbortController();
  const refusal = refusalOf(greeted([silent.url], 60_000, end.signal));
  end.abort(new Error("the end"));
  expect(await refusal).not.toBe("it greeted");
  expect(await refusalOf(greeted([silent.url], 60_000, end.signal))).not.toBe("it greeted");
});
