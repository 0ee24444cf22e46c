import { expect, test } from "bun:test";
import { relayedResponse } from "./answers.ts";

async function answered(headers: readonly (readonly [string, string])[], body: string): Promise<Response> {
  const response = relayedResponse(403, headers, Buffer.from(body));
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => response });
  try {
    return await fetch(server.url, { keepalive: false }).then(async (got) => new Response(await got.bytes(), got));
  } finally {
    await server.stop(true);
  }
}

test("a relayed answer without a type gets none, and its length", async () => {
  const response = await answered([["X-Why", "because"]], "no entry");
  expect(response.headers.get("content-type")).toBeNull();
  expect(response.headers.get("content-length")).toBe("8");
  expect(response.headers.get("x-why")).toBe("because");
  expect(await response.text()).toBe("no entry");
});

test("a relayed answer's own type is kept", async () => {
  const response = await answered([["Content-Type", "text/x-own"]], "no entry");
  expect(response.headers.get("content-type")).toBe("text/x-own");
});
