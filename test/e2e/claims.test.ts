import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { KEYS } from "../support/gateway.ts";
import type { RecordedRequest } from "../support/raw-backend.ts";
import { jsonError, Stack } from "../support/stack.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** What a token and a query become in the headers of an event. Source: PROTOCOL.md, "Calling the upstream". */
setDefaultTimeout(60_000);

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start();
});
afterAll(async () => {
  await stack.stop();
});

const HUB = "/ws/client/hubs/chat";
let exp = 0;
let aud = "";
beforeAll(() => {
  exp = secondsFromNow(600);
  aud = `http://127.0.0.1:${stack.port}${HUB}`;
});

/** Connects with a token whose claims are these JSON members, then `aud` and `exp`; returns the connect event. */
async function connectWith(members: string): Promise<RecordedRequest> {
  const json = `{${members},"aud":${JSON.stringify(aud)},"exp":${exp}}`;
  const { client, connect } = await stack.connect({
    path: `${HUB}?access_token=${signToken(json, { key: KEYS.primary })}`,
  });
  client.destroy();
  return connect;
}

describe("X-ASRS-User-Claims", () => {
  test.each([
    ["all claims in their order", '"z":"1","a":"2","sub":"u"', "z: 1, a: 2, sub: u"],
    ["an array gives repeated pairs", '"role":["a","b",3,true]', "role: a, role: b, role: 3, role: true"],
    ["an array of one", '"role":["only"]', "role: only"],
    ["numbers are JSON", '"n":1,"f":-1.5,"z":0', "n: 1, f: -1.5, z: 0"],
    ["big numbers keep their digits", '"n":12345678901234567890', "n: 12345678901234567890"],
    ["booleans are JSON", '"t":true,"f":false', "t: true, f: false"],
    ["objects are JSON, escaped", '"o":{"a":1,"b":"x: y"}', 'o: {"a":1%2C"b":"x%3A y"}'],
    ["a comma is escaped", '"n":"Doe, Jane"', "n: Doe%2C Jane"],
    ["a percent sign is escaped", '"n":"100%2C"', "n: 100%252C"],
    ["a colon before a space is escaped", '"n":"a: b"', "n: a%3A b"],
    ["other colons are unchanged", '"http://x.example/role":"a:b"', "http://x.example/role: a:b"],
    ["control characters are escaped", '"n":"a\\r\\nX-Evil: 1\\u0000"', "n: a%0D%0AX-Evil%3A 1%00"],
    ["non-ASCII is escaped as UTF-8", '"n":"J\u00fcrgen \u{1f600}"', "n: J%C3%BCrgen %F0%9F%98%80"],
    ["claim types are escaped too", '"a, b: c":"d"', "a%2C b%3A c: d"],
    ["an empty value", '"n":""', "n: "],
  ])("%s", async (_what, members, expected) => {
    const connect = await connectWith(`"nameid":"x",${members}`);
    expect(connect.header("X-ASRS-User-Claims")).toBe(`nameid: x, ${expected}, aud: ${aud}, exp: ${exp}`);
  });

  test("8 KiB is let through, one byte more is 431", async () => {
    const tail = `, aud: ${aud}, exp: ${exp}`;
    const fits = 8192 - "sub: u, big: ".length - tail.length;
    const connect = await connectWith(`"sub":"u","big":"${"b".repeat(fits)}"`);
    expect(connect.header("X-ASRS-User-Claims")?.length).toBe(8192);
    const json = `{"sub":"u","big":"${"b".repeat(fits + 1)}","aud":${JSON.stringify(aud)},"exp":${exp}}`;
    const client = await stack.request({ path: `${HUB}?access_token=${signToken(json, { key: KEYS.primary })}` });
    const answer = await client.answer();
    expect(answer.status).toBe(431);
    jsonError(answer.body);
  });
});

describe("the user id of a token", () => {
  test.each([
    ["is sub", '"sub":"alice"', "alice"],
    ["is nameid where sub is absent", '"nameid":"bob"', "bob"],
    ["is sub where both are given", '"nameid":"bob","sub":"alice"', "alice"],
    ["is empty without sub and nameid", '"name":"carol"', ""],
    ["keeps its case and its spaces inside", '"sub":"Alice B"', "Alice B"],
  ])("%s", async (_what, members, user) => {
    expect((await connectWith(members)).header("X-ASRS-User-Id")).toBe(user);
  });

  test("goes as UTF-8 bytes", async () => {
    expect((await connectWith('"sub":"jürgen ✓"')).head.utf8("X-ASRS-User-Id")).toBe("jürgen ✓");
  });

  test("of exactly 512 bytes is a user id", async () => {
    const user = "ü".repeat(256);
    expect((await connectWith(`"sub":"${user}"`)).head.utf8("X-ASRS-User-Id")).toBe(user);
  });
});

describe("X-ASRS-Client-Query", () => {
  test.each([
    ["?a=1&b=2", "a=1&b=2"],
    ["?a=1&a=2&a", "a=1&a=2&a"],
    ["?hub=chat&x=y", "hub=chat&x=y"],
    ["?q=%0D%0AX-ASRS-User-Id:%20root", "q=%0D%0AX-ASRS-User-Id:%20root"],
    ["?q=a+b%20c%2Bd", "q=a+b%20c%2Bd"],
    ["?q=/?:@!$()*,;", "q=/?:@!$()*,;"],
    // Bun hands the URL over with %27 in its place (decision 0007).
    ["?q='", "q=%27"],
    ["?access_tokens=1&xaccess_token=2", "access_tokens=1&xaccess_token=2"],
    ["?Access_Token=kept", "Access_Token=kept"],
    ["?", undefined],
    ["", undefined],
  ])("%s gives %j", async (query, expected) => {
    const { client, connect } = await stack.connect({ path: HUB + query });
    client.destroy();
    expect(connect.header("X-ASRS-Client-Query")).toBe(expected);
  });

  test("has every pair but the token's, on every event", async () => {
    const token = signToken({ sub: "u", aud, exp }, { key: KEYS.primary });
    const path = `${HUB}?a=1&access_token=${token}&b=%32`;
    const { client, connect } = await stack.connect({ path });
    client.text("x");
    const message = await stack.backend.next("message");
    client.close();
    const id = connect.header("X-ASRS-Connection-Id");
    const disconnect = await stack.backend.next("disconnect", (r) => r.header("X-ASRS-Connection-Id") === id);
    for (const request of [connect, message, disconnect]) {
      expect(request.header("X-ASRS-Client-Query")).toBe("a=1&b=%32");
      expect(request.head.bytes.includes(token)).toBe(false);
    }
  });

  test("is absent where the token was all", async () => {
    const token = signToken({ sub: "u", aud, exp }, { key: KEYS.primary });
    const { connect } = await stack.connect({ path: `${HUB}?access_token=${token}` });
    expect(connect.header("X-ASRS-Client-Query")).toBeUndefined();
  });

  test("bytes that no URL may hold are re-encoded", async () => {
    const { connect } = await stack.connect({ path: `${HUB}?q=\u00c3\u00bc"<>` });
    expect(connect.header("X-ASRS-Client-Query")).toBe("q=%C3%BC%22%3C%3E");
  });
});

test("with one key configured the signature has one entry", async () => {
  await using own = await Stack.start({ config: { accessKeys: { primary: KEYS.primary } } });
  const { connect } = await own.connect();
  expect(connect.header("X-ASRS-Signature")).toMatch(/^sha256=[0-9a-f]{64}$/);
});
