import { expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { makeClientToken, makeRestToken } from "./make-token.ts";

const read = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>;

test("a token is a JWT of three parts, HS256 over the key's UTF-8 bytes, good for as long as was asked", async () => {
  const before = Math.floor(Date.now() / 1000);
  const token = await makeClientToken("schlüssel", { audience: "https://x/client", userId: "zoë", ttlSeconds: 90 });
  const after = Math.floor(Date.now() / 1000);
  const [header = "", payload = "", signature] = token.split(".");
  expect(read(header)).toEqual({ alg: "HS256", typ: "JWT" });
  const { iat, exp, ...claims } = read(payload);
  expect(claims).toEqual({ sub: "zoë", aud: "https://x/client" });
  expect(Number(iat)).toBeGreaterThanOrEqual(before);
  expect(Number(iat)).toBeLessThanOrEqual(after);
  expect(Number(exp)).toBeGreaterThanOrEqual(before + 90);
  expect(Number(exp)).toBeLessThanOrEqual(after + 90);
  expect(signature).toBe(createHmac("sha256", "schlüssel").update(`${header}.${payload}`).digest("base64url"));
});

test("a token for a REST call names its URL and nobody, so that it opens no connection", async () => {
  const before = Math.floor(Date.now() / 1000);
  const token = await makeRestToken("key", { audience: "https://x/ws/api/messages", ttlSeconds: 60 });
  const [header = "", payload = "", signature] = token.split(".");
  const { iat, exp, ...claims } = read(payload);
  expect(claims).toEqual({ aud: "https://x/ws/api/messages" });
  expect([Number(exp) - Number(iat), Number(iat) >= before]).toEqual([60, true]);
  expect(signature).toBe(createHmac("sha256", "key").update(`${header}.${payload}`).digest("base64url"));
});
