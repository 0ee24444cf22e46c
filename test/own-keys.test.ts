import { expect, setDefaultTimeout, test } from "bun:test";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CommandGateway } from "./support/command-gateway.ts";
import { RawBackend } from "./support/raw-backend.ts";
import { RawWebSocket, statusOf } from "./support/raw-websocket.ts";
import { secondsFromNow, signToken } from "./support/tokens.ts";

/** The seed: "sha256={connection-id-hash-primary},sha256={connection-id-hash-secondary}", where nobody has configured a key. */
setDefaultTimeout(60_000);

test("hubwire makes two keys: events are signed with both, and tokens of both count", async () => {
  await using backend = await RawBackend.start();
  await using gateway = await CommandGateway.start({
    config: { upstreams: [{ urlTemplate: `${backend.url}/{event}` }] },
  });
  const keys = ["access-key", "access-key-secondary"].map((name) =>
    readFileSync(join(gateway.dataDir, name), "utf8").trim(),
  );
  expect(new Set(keys).size).toBe(2);
  const audience = `http://127.0.0.1:${gateway.port}/client/hubs/chat`;
  for (const key of [...keys, "k".repeat(44)]) {
    const token = signToken({ sub: "ann", aud: audience, exp: secondsFromNow(600) }, { key });
    using client = await RawWebSocket.request({ port: gateway.port, path: `/client/hubs/chat?access_token=${token}` });
    expect(statusOf(await client.head())).toBe(keys.includes(key) ? 101 : 401);
  }
  const connect = await backend.next("connect");
  const id = connect.header("X-ASRS-Connection-Id") ?? "";
  const signatures = keys.map((key) => `sha256=${createHmac("sha256", key).update(id).digest("hex")}`);
  expect(connect.header("X-ASRS-Signature")).toBe(signatures.join(","));
});
