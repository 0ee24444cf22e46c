import { describe, expect, test } from "bun:test";
import {
  type AdmissionAsked,
  type ConnectDecision,
  type DisconnectDue,
  decideConnect,
} from "../src/core/connect-decision.ts";
import type { ConnectAsked } from "../src/protocol/dialect.ts";
import type { HeaderLine } from "../src/protocol/headers.ts";
import { toPayload } from "./support/payloads.ts";
import {
  answer,
  connectOutcome,
  notSent,
  refused,
  type Scripted,
  UNROUTED,
  unknown,
} from "./support/scripted-upstream.ts";

type Asked = ConnectAsked & AdmissionAsked;

const ANONYMOUS: Asked = { userId: null, subprotocols: "v1, v2", maxGroups: 2 };
const ALICE: Asked = { ...ANONYMOUS, userId: "alice" };
const BOB: HeaderLine = ["X-ASRS-User-Id", "bob"];

interface Refused {
  readonly what: string;
  readonly outcome: Scripted;
  readonly asked?: Asked;
  readonly status: number;
  readonly disconnect: DisconnectDue;
}

function decide(outcome: Scripted, asked: Asked): ConnectDecision {
  return decideConnect(connectOutcome(outcome, asked), asked);
}

/** The outcomes of PROTOCOL.md, "Connect", that let nobody in. */
const REFUSED: readonly Refused[] = [
  { what: "2xx, no user id anywhere", outcome: answer(200), status: 401, disconnect: "accepted" },
  {
    what: "2xx, an empty user id",
    outcome: answer(200, [["X-ASRS-User-Id", ""]]),
    status: 401,
    disconnect: "accepted",
  },
  ...["v3", "", "v1, v2"].map((subprotocol) => ({
    what: `2xx, subprotocol ${JSON.stringify(subprotocol)}`,
    outcome: answer(200, [BOB, ["Sec-WebSocket-Protocol", subprotocol]]),
    status: 502,
    disconnect: "accepted" as const,
  })),
  {
    what: "2xx, more than one subprotocol line",
    outcome: answer(200, [BOB, ["Sec-WebSocket-Protocol", "v1"], ["Sec-WebSocket-Protocol", "v2"]]),
    status: 502,
    disconnect: "accepted",
  },
  {
    what: "2xx, then a body over the limit",
    outcome: unknown({ cause: "too-large", status: 200 }),
    status: 502,
    disconnect: "accepted",
  },
  { what: "2xx, then cut off", outcome: unknown({ cause: "reset", status: 204 }), status: 502, disconnect: "accepted" },
  { what: "2xx, coded", outcome: unknown({ cause: "malformed", status: 299 }), status: 502, disconnect: "accepted" },
  { what: "2xx, then late", outcome: unknown({ cause: "timeout", status: 200 }), status: 504, disconnect: "accepted" },
  {
    what: "2xx, bad user id",
    outcome: answer(200, [["X-ASRS-User-Id", "a\u0001"]]),
    status: 502,
    disconnect: "accepted",
  },
  {
    what: "2xx, two user ids",
    outcome: answer(200, [BOB, ["X-ASRS-User-Id", "eve"]]),
    status: 502,
    disconnect: "accepted",
  },
  {
    what: "2xx, bad group",
    outcome: answer(200, [BOB, ["X-ASRS-Connection-Group", `a, ${"g".repeat(513)}`]]),
    status: 502,
    disconnect: "accepted",
  },
  {
    what: "2xx, one group more than allowed",
    outcome: answer(200, [BOB, ["X-ASRS-Connection-Group", "a,b,c"]]),
    status: 502,
    disconnect: "accepted",
  },
  ...[100, 101, 199, 300, 302, 304, 399, 500, 503, 599].map((status) => ({
    what: `status ${status}`,
    outcome: answer(status, [BOB]),
    status: 502,
    disconnect: "none" as const,
  })),
  { what: "provably not sent", outcome: notSent(), status: 502, disconnect: "none" },
  { what: "sent, no status: timeout", outcome: unknown({ cause: "timeout" }), status: 504, disconnect: "unknown" },
  { what: "sent, no status: reset", outcome: unknown({ cause: "reset" }), status: 502, disconnect: "unknown" },
  { what: "sent, no status: garbage", outcome: unknown({ cause: "malformed" }), status: 502, disconnect: "unknown" },
  { what: "5xx, then late", outcome: unknown({ cause: "timeout", status: 500 }), status: 504, disconnect: "none" },
  { what: "breaker open", outcome: refused({ cause: "breaker" }), status: 503, disconnect: "none" },
  { what: "concurrency wait over", outcome: refused({ cause: "concurrency" }), status: 503, disconnect: "none" },
  {
    what: "the wait of an address at its share over",
    outcome: refused({ cause: "address-concurrency" }),
    status: 503,
    disconnect: "none",
  },
  { what: "no entry matches, no user", outcome: UNROUTED, status: 401, disconnect: "none" },
];

test.each(REFUSED)("$what: $status, disconnect $disconnect", ({ outcome, asked = ANONYMOUS, status, disconnect }) => {
  const decision = decide(outcome, asked);
  if (decision.kind !== "refuse") throw new Error(`it is ${decision.kind}`);
  expect(decision.refusal.status).toBe(status);
  expect(decision.disconnect).toBe(disconnect);
});

test.each(REFUSED.filter(({ status, disconnect }) => status >= 500 && disconnect === "none"))(
  "$what: a token's user changes nothing about it",
  ({ outcome, status, disconnect }) => {
    expect(decide(outcome, ALICE)).toMatchObject({ kind: "refuse", refusal: { status }, disconnect });
  },
);

test("503 says when to come back", () => {
  expect(decide(refused({ retryAfterSeconds: 9 }), ALICE)).toMatchObject({
    refusal: { headers: { "Retry-After": "9" } },
  });
});

describe("an accepted connection", () => {
  test.each([200, 201, 204, 299])("comes of status %d with a user in the header", (status) => {
    expect(decide(answer(status, [BOB]), ANONYMOUS)).toEqual({
      kind: "accept",
      userId: "bob",
      groups: [],
      subprotocol: null,
      payload: null,
      headers: [],
    });
  });

  test("has the token's user where the answer names none, and the answer's where it does", () => {
    expect(decide(answer(200), ALICE)).toMatchObject({ kind: "accept", userId: "alice" });
    expect(decide(answer(200, [BOB]), ALICE)).toMatchObject({ kind: "accept", userId: "bob" });
  });

  test("has the groups, up to the limit, and the subprotocol", () => {
    const headers: HeaderLine[] = [BOB, ["X-ASRS-Connection-Group", "a, b"], ["Sec-WebSocket-Protocol", "v2"]];
    expect(decide(answer(200, headers), ANONYMOUS)).toMatchObject({ groups: ["a", "b"], subprotocol: "v2" });
  });

  test("gets a body as its first message, typed like any other", () => {
    expect(decide(answer(200, [BOB], "hi"), ANONYMOUS)).toMatchObject({ payload: toPayload("hi") });
    const binary: HeaderLine[] = [BOB, ["Content-Type", "application/octet-stream"]];
    expect(decide(answer(200, binary, "hi"), ANONYMOUS)).toMatchObject({
      payload: toPayload(new TextEncoder().encode("hi")),
    });
  });

  test("comes of no matching entry where the token gave a user", () => {
    expect(decide(UNROUTED, ALICE)).toMatchObject({ kind: "accept", userId: "alice", payload: null });
  });
});

describe("a refused connection's disconnect", () => {
  test("names the user that the connection would have had", () => {
    expect(decide(answer(200, [["Sec-WebSocket-Protocol", ""]]), ALICE)).toMatchObject({ userId: "alice" });
    expect(decide(answer(200, [BOB, ["X-ASRS-Connection-Group", "a,b,c"]]), ALICE)).toMatchObject({
      userId: "bob",
    });
  });
});

describe("a 4xx answer", () => {
  test.each([400, 401, 404, 418, 499])("of status %d is the client's, without the headers meant for us", (status) => {
    const headers: HeaderLine[] = [
      ["WWW-Authenticate", "Basic"],
      BOB,
      ["Connection", "close"],
      ["Content-Length", "4"],
    ];
    expect(decide(answer(status, headers, "nope"), ALICE)).toEqual({
      disconnect: "none",
      userId: "alice",
      kind: "relay",
      status,
      headers: [["WWW-Authenticate", "Basic"]],
      body: new TextEncoder().encode("nope"),
      bodyFault: null,
    });
  });

  test.each(["timeout", "reset", "malformed", "too-large", "abandoned"] as const)(
    "whose body did not come whole (%s) is the client's all the same, without the body",
    (cause) => {
      const headers: HeaderLine[] = [["WWW-Authenticate", "Basic"], BOB, ["Content-Length", "4"]];
      expect(decide(unknown({ cause, status: 401, headers, detail: "why" }), ALICE)).toEqual({
        disconnect: "none",
        userId: "alice",
        kind: "relay",
        status: 401,
        headers: [["WWW-Authenticate", "Basic"]],
        body: null,
        bodyFault: "why",
      });
    },
  );
});

describe("a 2xx whose body did not come whole", () => {
  test("is followed by a disconnect with the user that its head names, else the token's", () => {
    const lost = { cause: "too-large", status: 200 } as const;
    expect(decide(unknown({ ...lost, headers: [BOB] }), ALICE)).toMatchObject({ userId: "bob" });
    expect(decide(unknown(lost), ALICE)).toMatchObject({ userId: "alice" });
    const two: HeaderLine[] = [BOB, ["X-ASRS-User-Id", "eve"]];
    expect(decide(unknown({ ...lost, headers: two }), ALICE)).toMatchObject({ userId: "alice" });
  });
});

describe("an answer to a repeat, whose first answer was lost", () => {
  const repeated = (status: number) => ({ ...answer(status, [BOB]), wasRepeated: true }) as Scripted;

  test.each([
    [401, "relay"],
    [500, "refuse"],
    [302, "refuse"],
  ] as const)(
    "of status %d refuses the client, and a disconnect follows: the first may have been 2xx",
    (status, kind) => {
      expect(decide(repeated(status), ALICE)).toMatchObject({ kind, disconnect: "unknown", userId: "alice" });
    },
  );

  test.each([
    [401, "relay", "unknown"],
    [500, "refuse", "unknown"],
    [200, "refuse", "accepted"],
  ] as const)("of status %d that did not come whole: %s, and a disconnect follows", (status, kind, disconnect) => {
    const lost = unknown({ cause: "reset", status, wasRepeated: true });
    expect(decide(lost, ALICE)).toMatchObject({ kind, disconnect });
  });

  test("of status 200 lets the client in", () => {
    expect(decide(repeated(200), ALICE)).toMatchObject({ kind: "accept", userId: "bob" });
  });
});
