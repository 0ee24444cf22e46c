import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { until } from "../support/deadline.ts";
import type { ClientOptions } from "../support/raw-websocket.ts";
import { Stack } from "../support/stack.ts";

/** Every refused client leaves a line in the log, so that operators see that clients are refused, and why. */
setDefaultTimeout(60_000);

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({
    config: { anonymous: "deny", allowedOrigins: ["https://app.example"], hubs: { open: { anonymous: "allow" } } },
  });
  stack.backend.onConnect = (exchange) => exchange.reply(418, ["X-Secret: s3cret"], "s3cret body");
});
afterAll(async () => {
  await stack.stop();
});

const ROWS: readonly (readonly [string, Omit<ClientOptions, "port">, Readonly<Record<string, unknown>>])[] = [
  ["an invalid hub name", { path: "/ws/client/hubs/1s3cret" }, { hub: "", status: 400, code: "bad_hub" }],
  ["two hubs", { path: "/ws/client?hub=s3cret&hub=b" }, { hub: "", status: 400, code: "bad_hub" }],
  ["an invalid Host", { without: ["host"], lines: ["Host: s3cret/x"] }, { hub: "", status: 400, code: "bad_request" }],
  ["no upgrade", { without: ["upgrade"] }, { hub: "chat", status: 426, code: "upgrade_required" }],
  ["an origin", { lines: ["Origin: https://s3cret"] }, { hub: "chat", status: 403, code: "origin_denied" }],
  ["no token", {}, { hub: "chat", status: 401, code: "token_required" }],
  [
    "the upstream's own 4xx",
    { path: "/ws/client/hubs/open?s3cret=1" },
    { hub: "open", status: 418, code: "relayed", cause: "the upstream refused" },
  ],
];

test.each(ROWS)("%s", async (_what, options, line) => {
  const refusals = () => stack.gateway.logLines().filter(({ msg }) => msg === "connection refused");
  const before = refusals().length;
  const { status } = await (await stack.request(options)).answer();
  expect(status).toBe(Number(line["status"]));
  // Within a second of another of its code and hub its line comes at the second's end.
  await until(() => refusals().length > before, "the line of the refusal");
  const [last, ...more] = refusals().slice(before);
  expect(last).toMatchObject({ ...line, clientAddress: "127.0.0.1" });
  expect(more).toEqual([]);
  expect(JSON.stringify(last)).not.toContain("s3cret");
});
