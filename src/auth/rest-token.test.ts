import { describe, expect, test } from "bun:test";
import { signToken } from "../../test/support/tokens.ts";
import type { Refusal } from "../protocol/error-codes.ts";
import { parseRestPath } from "../protocol/rest-path.ts";
import type { AccessKeys } from "./access-keys.ts";
import { RestTokens } from "./rest-token.ts";

const KEYS = { primary: "first-key-of-these-tests", secondary: "second-key-of-these-tests" };
const HOSTS = ["gw.example", "[2001:db8::1]"];

/** Where a token is checked; what is left out is as a good caller would have it. */
interface Given {
  readonly tokens?: RestTokens;
  /** The request's path and query. */
  readonly target?: string;
  readonly keys?: AccessKeys;
  readonly now?: number;
}

function check(authorization: string | null, given: Given = {}): Refusal | null {
  const { tokens = new RestTokens(), target = "/ws/api/hubs/chat/messages", keys = KEYS, now = 1000 } = given;
  const [path = "", query = ""] = target.split("?");
  const parsed = parseRestPath(path, query);
  if (parsed === null) throw new Error(`${target} is not a path of the API`);
  return tokens.check(authorization, { path: parsed, hosts: HOSTS, keys, nowSeconds: now });
}

function bearer(aud: unknown, over: Readonly<Record<string, unknown>> = {}, key = KEYS.primary): string {
  return `Bearer ${signToken({ aud, exp: 2000, ...over }, { key })}`;
}

/** The code of a refusal, or `ok`. */
function outcome(aud: unknown, target: string): string {
  return check(bearer(aud), { target })?.code ?? "ok";
}

describe("the Authorization line", () => {
  const token = signToken({ aud: "http://gw.example/ws/api/hubs/chat/messages", exp: 2000 }, { key: KEYS.primary });

  test.each([`Bearer ${token}`, `bearer ${token}`, `BEARER   ${token}  `])("is read without case: %s", (line) => {
    expect(check(line)).toBeNull();
  });

  test.each([null, "", token, "Bearer", "Bearer ", `Basic ${token}`, `Bearer${token}`])(
    "that brings no token is 401 with a challenge: %p",
    (line) => {
      const refused = check(line);
      expect(refused).toMatchObject({ status: 401, code: "token_required", headers: { "WWW-Authenticate": "Bearer" } });
    },
  );

  test("that brings two tokens is 401", () => {
    expect(check(`Bearer ${token}, Bearer ${token}`)).toMatchObject({ status: 401 });
    expect(check(`Bearer ${token} ${token}`)).toMatchObject({ status: 401 });
  });
});

describe("the audience", () => {
  const target = "/ws/api/hubs/chat/messages";

  test.each([
    "http://gw.example/ws/api/hubs/chat/messages",
    "https://gw.example/ws/api/hubs/chat/messages",
    "ws://gw.example/ws/api/hubs/chat/messages",
    "http://gw.example:8080/ws/api/hubs/chat/messages",
    "http://GW.Example/ws/api/hubs/CHAT/messages",
    "http://gw.example/ws/api/hubs/chat/messages/",
    "http://gw.example/ws/api/hubs/chat/messages?excluded=c1",
    "http://gw.example/ws/api/hubs/%63hat/messages",
    "http://[2001:db8::1]:80/ws/api/hubs/chat/messages",
  ])("%s names the request's URL", (aud) => {
    expect(outcome(aud, target)).toBe("ok");
    expect(outcome(["urn:another", aud], target)).toBe("ok");
    expect(outcome(aud, `${target}?excluded=c7`)).toBe("ok");
  });

  test.each([
    ["another host", "http://other.example/ws/api/hubs/chat/messages"],
    ["another hub", "http://gw.example/ws/api/hubs/news/messages"],
    ["no hub", "http://gw.example/ws/api/messages"],
    ["another path", "http://gw.example/ws/api/hubs/chat/users/ann/messages"],
    ["a path above", "http://gw.example/ws/api/hubs/chat"],
    ["the other families' paths", "http://gw.example/api/messages?hub=chat"],
    ["the client endpoint", "http://gw.example/ws/client/hubs/chat"],
    ["another scheme", "ftp://gw.example/ws/api/hubs/chat/messages"],
    ["a path alone", "/ws/api/hubs/chat/messages"],
    ["nothing", ""],
    ["a number", 7],
    ["an object", { url: "http://gw.example/ws/api/hubs/chat/messages" }],
    ["an empty list", []],
    ["a list in a list", [["http://gw.example/ws/api/hubs/chat/messages"]]],
    ["null", null],
  ])("that is %s is refused", (_what, aud) => {
    expect(outcome(aud, target)).toBe("token_audience");
  });

  test("is missing: refused", () => {
    const line = `Bearer ${signToken({ exp: 2000 }, { key: KEYS.primary })}`;
    expect(check(line)).toMatchObject({ code: "token_audience" });
  });

  test("names the hub of the query in the form of 2020-10-01, and none for no other", () => {
    const url = "http://gw.example/api/messages";
    expect(outcome(`${url}?hub=chat`, "/api/messages?hub=Chat")).toBe("ok");
    expect(outcome(`${url}?excluded=c1&hub=chat`, "/api/messages?hub=chat&excluded=c2")).toBe("ok");
    expect(outcome(url, "/api/messages")).toBe("ok");
    expect(outcome(`${url}?hub=_default`, "/api/messages?hub=")).toBe("ok");
    expect(outcome(url, "/api/messages?hub=chat")).toBe("token_audience");
    expect(outcome(`${url}?hub=chat`, "/api/messages")).toBe("token_audience");
    expect(outcome(`${url}?hub=chat`, "/api/messages?hub=news")).toBe("token_audience");
    expect(outcome(`${url}?hub=chat`, "/api/messages?hub=chat&hub=news")).toBe("token_audience");
  });

  test("compares names decoded and with their case", () => {
    const url = "http://gw.example/ws/api/users";
    expect(outcome(`${url}/gr%C3%B6%C3%9Fe/messages`, "/ws/api/users/gr%c3%b6%c3%9fe/messages")).toBe("ok");
    expect(outcome(`${url}/größe/messages`, "/ws/api/users/gr%C3%B6%C3%9Fe/messages")).toBe("ok");
    expect(outcome(`${url}/a%2Fb/messages`, "/ws/api/users/a%2fb/messages")).toBe("ok");
    expect(outcome(`${url}/a/b/messages`, "/ws/api/users/a%2Fb/messages")).toBe("token_audience");
    expect(outcome(`${url}/Ann/messages`, "/ws/api/users/ann/messages")).toBe("token_audience");
  });

  test.each([
    "http://gw.example/ws/api/users/../messages",
    "http://gw.example/ws/api/users/%2e%2E/messages",
    "http://gw.example/ws/api/users/.%2e/messages",
    "http://gw.example/ws/api/./messages",
    "http://gw.example/ws/api/users/..\\messages",
    "http://gw.example/ws/api/users\\../messages",
    "http://gw.example\\ws\\api\\users\\..\\messages",
    "http://gw.example/ws/api/users/.\t./messages",
    "http://gw.example/ws/api/users/\n../messages",
    "http://gw.example/ws/api/messages/. \u0001",
  ])("that was written with a step up or none is not what it has come to mean: %j", (aud) => {
    expect(new URL(aud).pathname).toMatch(/^\/ws\/api\/messages\/?$/);
    expect(outcome(aud, "/ws/api/messages")).toBe("token_audience");
  });

  test("may hold dots inside of a name", () => {
    const target = "/ws/api/users/...a..b./messages";
    expect(outcome(`http://gw.example${target}`, target)).toBe("ok");
  });
});

describe("order of the checks", () => {
  test("signature, then claims, then time, then audience", () => {
    const wrong = "http://other.example/";
    expect(check("Bearer x")?.code).toBe("token_malformed");
    expect(check(bearer(wrong, { exp: "x" }, "another"))?.code).toBe("token_signature");
    expect(check(bearer(wrong, { exp: "x" }))?.code).toBe("token_claims");
    expect(check(bearer(wrong, { exp: 1 }))?.code).toBe("token_expired");
    expect(check(bearer(wrong, { nbf: 1500 }))?.code).toBe("token_not_yet_valid");
    expect(check(bearer(wrong))?.code).toBe("token_audience");
  });
});

describe("a token that is remembered", () => {
  const aud = "http://gw.example/ws/api/hubs/chat/messages";
  const line = bearer(aud);

  test("still has its time looked at", () => {
    const tokens = new RestTokens();
    expect(check(line, { tokens, now: 1000 })).toBeNull();
    expect(check(line, { tokens, now: 2059 })).toBeNull();
    expect(check(line, { tokens, now: 2060 })).toMatchObject({ code: "token_expired" });
  });

  test("still has its audience looked at", () => {
    const tokens = new RestTokens();
    expect(check(line, { tokens })).toBeNull();
    expect(check(line, { tokens, target: "/ws/api/messages" })).toMatchObject({ code: "token_audience" });
  });

  test("is forgotten when the keys change: its key may be no more", () => {
    const tokens = new RestTokens();
    expect(check(line, { tokens })).toBeNull();
    const rotated = { primary: "a-new-key", secondary: null };
    expect(check(line, { tokens, keys: rotated })).toMatchObject({ code: "token_signature" });
    expect(check(bearer(aud, {}, "a-new-key"), { tokens, keys: rotated })).toBeNull();
    expect(check(line, { tokens, keys: { ...KEYS } })).toBeNull();
  });

  test("costs no second signature, while one with a bad signature is never remembered", () => {
    const tokens = new RestTokens();
    let reads = 0;
    const keys: AccessKeys = {
      get primary() {
        reads++;
        return KEYS.primary;
      },
      secondary: null,
    };
    check(line, { tokens, keys });
    const readsForOne = reads;
    check(line, { tokens, keys });
    expect(reads).toBe(readsForOne);
    const bad = bearer(aud, {}, "another");
    check(bad, { tokens, keys });
    check(bad, { tokens, keys });
    expect(reads).toBe(3 * readsForOne);
  });

  test("is forgotten after 10,000 others: those that call with a new token each time cost no more than that", () => {
    const tokens = new RestTokens();
    let reads = 0;
    const keys: AccessKeys = {
      get primary() {
        reads++;
        return KEYS.primary;
      },
      secondary: null,
    };
    const lines = Array.from({ length: 10_001 }, (_empty, index) => bearer(aud, { jti: index }));
    for (const one of lines.slice(0, 10_000)) check(one, { tokens, keys });
    reads = 0;
    for (const one of lines.slice(0, 10_000)) check(one, { tokens, keys });
    expect(reads).toBe(0);
    check(lines[10_000] ?? "", { tokens, keys });
    reads = 0;
    check(lines[1] ?? "", { tokens, keys });
    check(lines[10_000] ?? "", { tokens, keys });
    expect(reads).toBe(0);
    check(lines[0] ?? "", { tokens, keys });
    expect(reads).toBeGreaterThan(0);
  });
});
