import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import { connect } from "node:net";
import { MAX_RUN } from "../../src/sockets/request-runs.ts";
import { within } from "../support/deadline.ts";
import { Stack } from "../support/stack.ts";

/** Requests that are sent ahead, as many as a client likes. */
setDefaultTimeout(60_000);

const HEALTH = "GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n";

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start();
});
afterAll(async () => {
  await stack.stop();
});

/** Sends a request so many times in one go; resolves with all that comes until the connection ends. */
async function flood(request: string, count: number): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port: stack.port });
  await within(once(socket, "connect"), "the TCP connection");
  let answers = "";
  socket.setEncoding("latin1").on("data", (text: string) => {
    answers += text;
  });
  // What was sent ahead in vain may come back as a reset.
  const over = new Promise<void>((resolve) => {
    for (const end of ["end", "close", "error"]) socket.on(end, () => resolve());
  });
  socket.write(request.repeat(count));
  await within(over, "the end of the connection");
  socket.destroy();
  return answers;
}

test("a client that sends thousands of requests ahead is answered some, and its connection ends", async () => {
  // In one turn of the event loop a good part of these arrives.
  const answers = await flood(HEALTH, 60 * MAX_RUN);
  expect(answers.split("HTTP/1.1 200").length - 1).toBeLessThan(30 * MAX_RUN);
});

test("half as many, as callers of the REST API may send ahead, are all answered", async () => {
  const last = "GET /api/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  expect((await flood(HEALTH.repeat(MAX_RUN / 2 - 1) + last, 1)).split("HTTP/1.1 200").length - 1).toBe(MAX_RUN / 2);
});
