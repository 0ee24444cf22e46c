import { audienceOf, restToken } from "../../support/rest-client.ts";
import type { Dice } from "../support/dice.ts";
import { mutate, nastyText } from "./mutation.ts";

const METHODS = ["POST", "PUT", "DELETE", "GET", "HEAD", "PATCH", "OPTIONS", "TRACE", "QUERY"];
const NAMES = ["ann", "bob", "red", "blue", "a%2Fb", "%20", "..", ".", "", "%C3%BC", "%ff", "a".repeat(513)];
const TYPES = ["text/plain", "application/json", "application/octet-stream", "TEXT/PLAIN; charset=UTF-8"];
const BAD_TYPES = [
  "text/plain; charset=latin1",
  "text/html",
  "",
  "text/plain;",
  "/",
  "text/plain; charset=utf-8; charset=x",
];
const BODIES = ["", "hello", "\xff\xfe", "x".repeat(2000), "x".repeat(65_536), "x".repeat(65_537), '{"a":1}'];
const QUERIES = ["ttl=1", "ttl=2", "ttl=0", "ttl=-1", "ttl=1e9", "ttl=1&ttl=2", "excluded=a&excluded=b", "reason=bye"];
const FRAMINGS = ["Content-Length: 3", "Content-Length: -1", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip"];

/** The operations; `{user}` and the like are filled in, `{id}` with a live connection's id. */
const OPERATIONS: readonly (readonly [string, string])[] = [
  ["POST", "/messages"],
  ["POST", "/users/{name}/messages"],
  ["POST", "/connections/{id}/messages"],
  ["POST", "/groups/{name}/messages"],
  ["PUT", "/groups/{name}/connections/{id}"],
  ["DELETE", "/connections/{id}/groups/{name}"],
  ["PUT", "/users/{name}/groups/{name}"],
  ["DELETE", "/users/{name}/groups/{name}"],
  ["DELETE", "/users/{name}/groups"],
  ["GET", "/users/{name}/groups/{name}"],
  ["GET", "/connections/{id}"],
  ["HEAD", "/users/{name}"],
  ["GET", "/groups/{name}"],
  ["DELETE", "/connections/{id}"],
];

/** A REST request, good or with a few places broken. */
export function restRequestOf(dice: Dice, port: number, ids: readonly string[]): Buffer {
  const isBroken = (probability: number): boolean => dice.chance(probability);
  const [method, path] = dice.pick(OPERATIONS);
  const filled = path
    .replace(/\{name\}/g, () => (isBroken(0.1) ? encodeURIComponent(nastyText(dice)) : dice.pick(NAMES)))
    // Closing is rare: what is closed is nobody's target any more.
    .replace("{id}", () => (method === "DELETE" && !isBroken(0.05) ? "nobody" : dice.pick(ids)));
  const prefix = dice.pick([
    "/ws/api/hubs/chat",
    "/ws/api",
    "/api",
    "/ws/api/v1/hubs/chat",
    "/ws/api/hubs/%",
    "/api/hubs/x",
  ]);
  const query = isBroken(0.3) ? `?${dice.pick([...QUERIES, "hub=chat", nastyText(dice).replace(/\s/g, "")])}` : "";
  const target = prefix + filled + query;
  const audience = isBroken(0.1) ? nastyText(dice) : audienceOf(port, target);
  const token = restToken(audience, isBroken(0.05) ? { exp: nastyText(dice) } : {});
  const body = isBroken(0.9) ? dice.pick(BODIES.slice(0, 2)) : dice.pick(BODIES);
  const lines = [
    `Host: 127.0.0.1:${port}`,
    `Authorization: Bearer ${isBroken(0.1) ? mutate(Buffer.from(token), dice).toString("latin1") : token}`,
    `Content-Type: ${isBroken(0.1) ? dice.pick(BAD_TYPES) : dice.pick(TYPES)}`,
    isBroken(0.05) ? dice.pick(FRAMINGS) : `Content-Length: ${Buffer.byteLength(body, "latin1")}`,
    ...(isBroken(0.1) ? [`X-Own: ${nastyText(dice)}`] : []),
    ...(isBroken(0.03) ? ["Expect: 100-continue"] : []),
  ].filter(() => !isBroken(0.02));
  const head = [`${isBroken(0.05) ? dice.pick(METHODS) : method} ${target} HTTP/1.1`, ...lines, "", ""].join("\r\n");
  const bytes = Buffer.from(head + body, "latin1");
  return isBroken(0.2) ? mutate(bytes, dice) : bytes;
}
