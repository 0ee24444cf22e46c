import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { constants, deflateRawSync } from "node:zlib";
import { closePayload, OPCODE, type OutgoingFrame } from "../support/frame-codec.ts";
import { KEYS } from "../support/gateway.ts";
import type { ClientOptions } from "../support/raw-websocket.ts";
import { jsonError, ofConnection, Stack } from "../support/stack.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** Bad clients: each gets a clear answer, and the gateway serves on. Bad upstreams: bad-upstream.test.ts. */
setDefaultTimeout(60_000);

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({
    config: {
      publicUrls: ["https://chat.example"],
      hubs: { closed: { anonymous: "deny" } },
      websocket: { compression: true },
    },
  });
});
afterAll(async () => {
  await stack.stop();
});

const HUB = "/ws/client/hubs/chat";

function token(changes: Readonly<Record<string, unknown>> = {}, alg = "HS256"): string {
  const claims = { sub: "alice", aud: "https://chat.example/ws/client/hubs/chat", exp: secondsFromNow(600) };
  return signToken({ ...claims, ...changes }, { key: alg === "none" ? "" : KEYS.primary, alg });
}

const withToken = (value: string): Omit<ClientOptions, "port"> => ({ path: `${HUB}?access_token=${value}` });

describe("a bad handshake that hubwire answers: a status and a JSON error", () => {
  const rows: readonly (readonly [string, number, () => Omit<ClientOptions, "port">])[] = [
    ["no upgrade header", 426, () => ({ without: ["upgrade"] })],
    ["a bad hub name", 400, () => ({ path: "/ws/client/hubs/no%20hub" })],
    ["a token with alg none", 401, () => withToken(token({}, "none"))],
    ["an expired token", 401, () => withToken(token({ exp: secondsFromNow(-3600) }))],
    ["a token for another hub", 401, () => withToken(token({ aud: "https://chat.example/ws/client/hubs/other" }))],
    ["/ws/client/hubs/CLOSED where `closed` denies", 401, () => ({ path: "/ws/client/hubs/CLOSED" })],
    ["?hub=CLOSED where `closed` denies", 401, () => ({ path: "/ws/client?hub=CLOSED" })],
    [
      "Host: evil.example with a token for it",
      401,
      () => ({
        ...withToken(token({ aud: "https://evil.example/ws/client/hubs/chat" })),
        without: ["host"],
        lines: ["Host: evil.example"],
      }),
    ],
    ["two tokens", 401, () => ({ ...withToken(token()), lines: [`Authorization: Bearer ${token()}`] })],
    ["access%5Ftoken= with a bad token", 401, () => ({ path: `${HUB}?access%5Ftoken=bad` })],
    ["access%5Ftoken= next to a good token", 401, () => ({ path: `${HUB}?access%5Ftoken=x&access_token=${token()}` })],
    [
      "a Sec-WebSocket-Key that is too short",
      400,
      () => ({ without: ["sec-websocket-key"], lines: ["Sec-WebSocket-Key: c2hvcnQ="] }),
    ],
    ["no Sec-WebSocket-Key", 400, () => ({ without: ["sec-websocket-key"] })],
    ["an odd Host", 400, () => ({ without: ["host"], lines: ["Host: a b/c@d"] })],
    ["two Host lines", 400, () => ({ lines: ["Host: chat.example"] })],
    ["the same Host twice", 400, () => ({ without: ["host"], lines: ["Host: chat.example", "Host: chat.example"] })],
    ["a Host and an empty one", 400, () => ({ lines: ["Host:"] })],
    ["two hosts in one Host line", 400, () => ({ without: ["host"], lines: ["Host: a.example,b.example"] })],
    ["a Host of 261 bytes", 400, () => ({ without: ["host"], lines: [`Host: ${"a.".repeat(127)}a:65535`] })],
    ["a Host with an impossible port", 400, () => ({ without: ["host"], lines: ["Host: x:99999"] })],
  ];
  test.each(rows)("%s: %d", async (_what, status, options) => {
    const before = stack.targets().length;
    const answer = await (await stack.request(options())).answer();
    expect(answer.status).toBe(status);
    jsonError(answer.body);
    await stack.cycle();
    expect(stack.targets().length).toBe(before);
  });
});

describe("a bad handshake that Bun answers: the status is the error", () => {
  const rows: readonly (readonly [string, readonly number[], Omit<ClientOptions, "port">])[] = [
    ["version 8", [426], { without: ["sec-websocket-version"], lines: ["Sec-WebSocket-Version: 8"] }],
    ["no version", [426], { without: ["sec-websocket-version"] }],
    ["a URL of 20 kB", [414, 431], { path: `${HUB}?q=${"x".repeat(20_000)}` }],
    ["a header of 20 kB", [431], { lines: [`X-Long: ${"x".repeat(20_000)}`] }],
    ["a header with NUL", [400], { lines: ["X-Nul: a\u0000b"] }],
    ["no Host", [400], { without: ["host"] }],
    ["a space in the URL", [400, 505], { path: `${HUB}?a b` }],
  ];
  test.each(rows)("%s", async (_what, statuses, options) => {
    const before = stack.targets().length;
    const answer = await (await stack.request(options)).answer();
    expect(statuses).toContain(answer.status);
    await stack.cycle();
    expect(stack.targets().length).toBe(before);
  });
});

describe("a client that tries to set what only hubwire may say", () => {
  test("CR and LF in a query value stay encoded and make no header", async () => {
    const query = "q=1%0d%0aX-ASRS-User-Id:%20root%0D%0A%0D%0A";
    const { client, connect } = await stack.connect({ path: `${HUB}?${query}` });
    client.destroy();
    expect(connect.header("X-ASRS-Client-Query")).toBe(query);
    expect(connect.header("X-ASRS-User-Id")).toBe("");
    await stack.cycle();
  });

  test("headers named like the seed's are dropped, in any case", async () => {
    const forged = [
      "X-ASRS-User-Id: root",
      "x-asrs-user-claims: role: admin",
      "X-Asrs-Hub: other",
      "X-ASRS-CONNECTION-ID: mine",
      "X-ASRS-Signature: sha256=00",
      "X-ASRS-Event: message",
      "X-ASRS-Category: messages",
      "X-ASRS-Client-Query: forged=1",
      `X-ASRS-Client-Cert-Thumbprint: ${"A".repeat(40)}`,
      "X-ASRS-Else: forged",
      "X-Hubwire-Event-Id: forged",
      "X-Hubwire-Connect-Outcome: unknown",
      "X-Forwarded-For: 9.9.9.9",
      "Date: Fri, 10 Jan 2020 01:02:03 GMT",
      "Cookie: session=secret",
    ];
    const { client, connect } = await stack.connect({ lines: forged });
    client.close();
    const id = connect.header("X-ASRS-Connection-Id") ?? "";
    const disconnect = await stack.backend.next("disconnect", ofConnection(id));
    for (const request of [connect, disconnect]) {
      const text = request.head.bytes.toString("latin1");
      for (const word of [
        "root",
        "admin",
        "other",
        "mine",
        "sha256=00",
        "forged",
        "AAAA",
        "9.9.9.9",
        "2020",
        "secret",
      ]) {
        expect(text).not.toContain(word);
      }
    }
    expect(id).toMatch(/^[A-Za-z0-9_-]{22,}$/);
    expect(connect.header("X-ASRS-User-Id")).toBe("");
    expect(connect.header("X-Hubwire-Connect-Outcome")).toBeUndefined();
  });
});

describe("bad frames: a close code, then the end, one disconnect, and no event of them", () => {
  const deflate = (payload: Buffer): Buffer =>
    deflateRawSync(payload, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
  const rows: readonly (readonly [string, number, () => readonly OutgoingFrame[]])[] = [
    ["oversize frame", 1009, () => [{ opcode: OPCODE.binary, payload: Buffer.alloc(1_048_577) }]],
    ["a declared length of 2^62", 1009, () => [{ opcode: OPCODE.binary, declaredBytes: 2 ** 62, lengthBits: 64 }]],
    ["invalid UTF-8 in a text frame", 1007, () => [{ opcode: OPCODE.text, payload: Buffer.from([0x61, 0xff]) }]],
    ["an overlong form", 1007, () => [{ opcode: OPCODE.text, payload: Buffer.from([0xc0, 0xaf]) }]],
    ["a surrogate", 1007, () => [{ opcode: OPCODE.text, payload: Buffer.from([0xed, 0xa0, 0x80]) }]],
    ["reserved opcode 3", 1002, () => [{ opcode: 3, payload: "x" }]],
    ["reserved opcode 7", 1002, () => [{ opcode: 7 }]],
    ["reserved opcode 11", 1002, () => [{ opcode: 11 }]],
    ["reserved opcode 15", 1002, () => [{ opcode: 15 }]],
    ["RSV2", 1002, () => [{ opcode: OPCODE.text, payload: "x", rsv: 2 }]],
    ["unmasked frame", 1002, () => [{ opcode: OPCODE.text, payload: "x", mask: false }]],
    ["unmasked ping", 1002, () => [{ opcode: OPCODE.ping, mask: false }]],
    ["fragmented ping", 1002, () => [{ opcode: OPCODE.ping, fin: false }]],
    ["ping of 126 bytes", 1002, () => [{ opcode: OPCODE.ping, payload: Buffer.alloc(126) }]],
    ["continuation of nothing", 1002, () => [{ opcode: OPCODE.continuation, payload: "x" }]],
    [
      "a message inside a message",
      1002,
      () => [
        { opcode: OPCODE.text, payload: "a", fin: false },
        { opcode: OPCODE.text, payload: "b" },
      ],
    ],
    ["a close frame of one byte", 1002, () => [{ opcode: OPCODE.close, payload: Buffer.from([3]) }]],
    ["close code 999", 1002, () => [{ opcode: OPCODE.close, payload: closePayload(999) }]],
    ["close code 1006", 1002, () => [{ opcode: OPCODE.close, payload: closePayload(1006) }]],
  ];
  test.each(rows)("%s: %d", async (_what, code, frames) => {
    const { client, connectionId } = await stack.connect();
    client.send(...frames());
    expect((await client.closed()).code).toBe(code);
    await client.ended();
    const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe(String(code));
    await stack.cycle();
    expect(stack.backend.requests.filter(ofConnection(connectionId)).length).toBe(2);
  });

  test.each([
    ["a deflate bomb of 100 MiB", 1009, () => deflate(Buffer.alloc(100 * 1_048_576))],
    ["bytes that do not inflate", 1007, () => Buffer.from("not deflated at all, surely")],
  ])("%s: %d", async (_what, code, payload) => {
    const client = await stack.open({ lines: ["Sec-WebSocket-Extensions: permessage-deflate"] });
    const id = (await stack.backend.next("connect")).header("X-ASRS-Connection-Id") ?? "";
    client.send({ opcode: OPCODE.text, payload: payload(), rsv: 4 });
    expect((await client.closed()).code).toBe(code);
    const disconnect = await stack.backend.next("disconnect", ofConnection(id));
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe(String(code));
    await stack.cycle();
    expect(stack.backend.requests.filter(ofConnection(id)).length).toBe(2);
  });
});

describe("clients that stop half way", () => {
  test("half a handshake held open is cut within 15 s", async () => {
    const silent = await stack.dial();
    const half = await stack.dial();
    half.write("GET /ws/client/hubs/chat HTTP/1.1\r\nHost: x\r\nUpgrade: webso");
    await Promise.all([half.ended(15_000), silent.ended(15_000)]);
    await stack.cycle();
  });

  test("many that connect and reset at once do no harm", async () => {
    for (let i = 0; i < 50; i++) {
      const client = await stack.dial();
      if (i % 2 === 0) client.write(client.handshake({ port: stack.port }).subarray(0, i * 3));
      client.reset();
    }
    await stack.cycle();
  });

  test("bytes that are no HTTP are answered with an end", async () => {
    const client = await stack.dial();
    client.write("\u0016\u0003\u0001 this is no HTTP\r\n\r\n");
    await client.ended();
    await stack.cycle();
  });
});
