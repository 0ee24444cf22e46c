import { describe, expect, test } from "bun:test";
import pino from "pino";
import { FakeClock } from "../../test/support/fake-clock.ts";
import type { Notice, NoticeOf } from "../protocol/notices.ts";
import { LineSums } from "./line-sums.ts";
import { createLogReport } from "./log.ts";

/** The last hop but one, as if the proxy in front were trusted. */
const clientOf = (forwardedFor: string) => forwardedFor.split(", ").at(-2) ?? "";

/** A report and the lines that it has written. */
function recording(level = "trace") {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const clock = new FakeClock();
  return { report: createLogReport(new LineSums(log, clock), { clientOf }), lines, clock };
}

const FACTS = {
  connectionId: "c1",
  hub: "chat",
  userId: "ann",
  claims: "",
  clientQuery: "",
  forwardedFor: "6.6.6.6, 9.9.9.9, 10.0.0.1",
};
const BYE = { code: 1000, reason: "bye", category: "client" } as const;
const REFUSED = {
  kind: "connection-refused",
  hub: "chat",
  status: 401,
  code: "token_expired",
  message: "the access token has expired",
  clientAddress: "192.0.2.1",
  isChainIgnored: false,
} as const;

const LOST = {
  kind: "undelivered",
  connectionId: "c1",
  hub: "chat",
  forwardedFor: "6.6.6.6, 9.9.9.9, 10.0.0.1",
  event: "message",
  eventId: "c1.4",
  cause: "not sent",
  count: 3,
  tookMs: 15_000,
} as const;

describe("createLogReport", () => {
  test("an event that was not delivered is a warning with connection, event, cause and count", () => {
    const { report, lines } = recording();
    report(LOST);
    const { kind: _, forwardedFor: _chain, ...shown } = LOST;
    expect(lines).toMatchObject([{ level: 40, ...shown, clientAddress: "9.9.9.9" }]);
  });

  test("the line of an event says how long its call took, where there was one", () => {
    const { report, lines } = recording();
    report(LOST);
    report({ ...LOST, cause: "queued", tookMs: null });
    expect(lines.map(({ tookMs }) => tookMs)).toEqual([15_000, undefined]);
    expect(lines[1]).not.toHaveProperty("tookMs");
  });

  test("a fault of the service is an error with its stack", () => {
    const { report, lines } = recording();
    report({ kind: "fault", where: "request", error: new Error("a bug") });
    expect(lines).toMatchObject([{ level: 50, where: "request", err: { message: "a bug" } }]);
    expect(JSON.stringify(lines)).toContain("log.test.ts");
  });

  test("opens and closes are left out at the default level, refusals are not", () => {
    const { report, lines } = recording("info");
    report({ kind: "connection-opened", facts: FACTS });
    report({ kind: "connection-closed", facts: FACTS, end: BYE });
    report(REFUSED);
    const { kind: _, message: cause, isChainIgnored: _ignored, ...shown } = REFUSED;
    expect(lines).toMatchObject([{ level: 30, ...shown, cause }]);
    expect(lines[0]).not.toHaveProperty("note");
    const all = recording("debug");
    all.report({ kind: "connection-opened", facts: FACTS });
    all.report({ kind: "connection-closed", facts: FACTS, end: BYE });
    expect(all.lines).toMatchObject([
      { connectionId: "c1", clientAddress: "9.9.9.9" },
      { closeCode: 1000, closeReason: "bye", clientAddress: "9.9.9.9" },
    ]);
  });

  test("the line of a refused client whose X-Forwarded-For was ignored names trustedProxies", () => {
    const { report, lines } = recording();
    report({ ...REFUSED, isChainIgnored: true });
    expect(lines[0]).toMatchObject({ clientAddress: "192.0.2.1", note: expect.stringContaining("trustedProxies") });
  });

  test("what a client writes into its close reason stays one line of JSON", () => {
    const written: string[] = [];
    const log = pino({ level: "debug" }, { write: (line: string) => void written.push(line) });
    const reason = 'a\n{"level":60}\u2028"';
    const report = createLogReport(new LineSums(log, new FakeClock()), { clientOf });
    report({ kind: "connection-closed", facts: FACTS, end: { ...BYE, code: 4000, reason } });
    expect(written).toHaveLength(1);
    expect(written[0]?.trimEnd()).not.toContain("\n");
    expect(JSON.parse(written[0] ?? "")).toMatchObject({ closeReason: 'a\n{"level":60}\u2028"' });
  });

  test("an upstream entry's breaker and token are told of", () => {
    const { report, lines } = recording();
    report({ kind: "breaker-opened", entry: "upstreams[0]" });
    report({ kind: "breaker-closed", entry: "upstreams[0]" });
    report({ kind: "token-failed", entry: "upstreams[0]", detail: "status 500" });
    expect(lines).toMatchObject([
      { level: 40, entry: "upstreams[0]" },
      { level: 30, entry: "upstreams[0]" },
      { level: 40, entry: "upstreams[0]", detail: "status 500" },
    ]);
  });
});

/** A notice of a kind for the case of a number: another client, and where `isAnyHub` another of all else. */
type Sample<Kind extends Notice["kind"]> = (index: number, isAnyHub: boolean) => Omit<NoticeOf<Kind>, "kind">;

const factsOf = (index: number, isAnyHub: boolean) => ({
  ...FACTS,
  connectionId: `c${index}`,
  hub: isAnyHub ? `hub${index}` : "chat",
  forwardedFor: `192.0.2.${index}, 10.0.0.1`,
});
const lostOf = (index: number, isAnyHub: boolean) => ({
  connectionId: `c${index}`,
  hub: factsOf(index, isAnyHub).hub,
  forwardedFor: factsOf(index, isAnyHub).forwardedFor,
  event: "message" as const,
  eventId: `c${index}.1`,
  cause: isAnyHub ? `cause ${index}` : "not sent",
  count: 1,
  tookMs: null,
});
const word = (index: number, isAnyHub: boolean) => (isAnyHub ? `word ${index}` : "word");
const facts = (index: number, isAnyHub: boolean) => ({ facts: factsOf(index, isAnyHub) });
const entry = (index: number, isAnyHub: boolean) => ({ entry: word(index, isAnyHub) });
const entryAndCause = (index: number, isAnyHub: boolean) => ({ entry: "upstreams[0]", cause: word(index, isAnyHub) });
const reason = (index: number, isAnyHub: boolean) => ({ reason: word(index, isAnyHub) });
const moved = (index: number, isAnyHub: boolean) => ({ movedTo: "file.damaged-1", reason: word(index, isAnyHub) });
const file = (index: number, isAnyHub: boolean) => ({ name: "lock", reason: word(index, isAnyHub) });
const cause = (index: number, isAnyHub: boolean) => ({ cause: word(index, isAnyHub) });
const count = () => ({ count: 1 });
const nodeId = (index: number, isAnyHub: boolean) => ({ nodeId: word(index, isAnyHub) });

/** One of each kind there is: a new kind without a sample does not compile. */
const SAMPLES: { readonly [Kind in Notice["kind"]]: Sample<Kind> } = {
  "connection-opened": facts,
  "connection-closed": (...of) => ({ ...facts(...of), end: { ...BYE, code: 4000, reason: `bye ${of[0]}` } }),
  "connection-refused": (...of) => ({ ...REFUSED, hub: factsOf(...of).hub, clientAddress: `192.0.2.${of[0]}` }),
  "client-left": (...of) => ({ hub: factsOf(...of).hub, clientAddress: `192.0.2.${of[0]}` }),
  "accepted-late": facts,
  undelivered: lostOf,
  "dead-letter": lostOf,
  "connections-recovered": count,
  "disconnects-waiting": entryAndCause,
  "disconnects-flowing": entry,
  "disconnect-refused": entryAndCause,
  "breaker-opened": entry,
  "breaker-closed": entry,
  "token-failed": (...of) => ({ entry: "upstreams[0]", detail: word(...of) }),
  "late-answer-dropped": entry,
  "file-restored": file,
  "file-lost": file,
  "certificate-renewed": (...of) => ({ where: word(...of) }),
  "certificate-refused": (...of) => ({ where: "listen.tls", reason: word(...of) }),
  "journal-absent": reason,
  "journal-damaged": moved,
  "journal-lost": reason,
  "journal-unwritable": reason,
  "journal-writable": () => ({}),
  "rules-damaged": moved,
  "rules-lost": reason,
  "rules-clock-misfit": reason,
  "rules-remade": count,
  "rules-unavailable": reason,
  "replica-stopped": cause,
  "replica-complete": count,
  "replica-missing": () => ({ entriesWithoutCopy: 1 }),
  "replica-fenced": nodeId,
  "replica-too-large": facts,
  "replica-settings-differ": (...of) => ({ detail: word(...of) }),
  "replica-skipped": (...of) => ({ ...nodeId(...of), ...count() }),
  "nats-up": (...of) => ({ server: word(...of) }),
  "nats-down": cause,
  "nats-refused": (...of) => ({ ...cause(...of), unsaidCount: 0 }),
  "nats-unsafe": reason,
  "node-messages-dropped": (...of) => ({ ...count(), ...reason(...of) }),
  "nodes-awaited": (...of) => ({ nodeIds: [word(...of)] }),
  "node-taken-over": (...of) => ({ ...nodeId(...of), ...count() }),
  "takeover-failed": (...of) => ({ nodeId: "node-two", ...cause(...of) }),
  "lease-unavailable": reason,
  "lease-available": () => ({}),
  "leases-remade": count,
  "lease-ignored": (...of) => ({ key: word(...of) }),
  "lease-lost": (...of) => ({ ...nodeId(...of), newNodeId: "new", ...count() }),
  fault: (...of) => ({ where: "request", error: new Error(word(...of)) }),
};

const KINDS = Object.keys(SAMPLES) as Notice["kind"][];

function sampleOf(kind: Notice["kind"], index: number, isAnyHub: boolean): Notice {
  return { ...SAMPLES[kind](index, isAnyHub), kind } as Notice;
}

describe("an event that happens a thousand times within a second", () => {
  const times = async (kind: Notice["kind"], isAnyHub: boolean) => {
    const { report, lines, clock } = recording();
    for (let index = 0; index < 1000; index++) report(sampleOf(kind, index, isAnyHub));
    await clock.advance(1000);
    const count = lines.reduce((sum, line) => sum + Number(line["count"] ?? 1), 0);
    return { lines, count };
  };

  test.each(KINDS)("%s: is one line and a sum, which counts all of it", async (kind) => {
    const { lines, count } = await times(kind, false);
    expect([lines.length, count]).toEqual([2, 1000]);
    const [first, sum] = lines;
    expect(sum).toMatchObject({ msg: first?.["msg"], level: first?.["level"], count: 999 });
    if (first?.["clientAddress"] !== undefined) {
      expect([first["clientAddress"], sum?.["clientAddress"], sum?.["addresses"]]).toEqual([
        "192.0.2.0",
        "192.0.2.1",
        999,
      ]);
    }
  });

  test.each(KINDS)("%s: however it differs, it is a bounded number of lines, which count all of it", async (kind) => {
    const { lines, count } = await times(kind, true);
    expect(lines.length).toBeLessThanOrEqual(66);
    expect(count).toBe(1000);
  });

  test.each([
    "connection-opened",
    "connection-closed",
    "connection-refused",
    "client-left",
    "accepted-late",
    "undelivered",
    "dead-letter",
    "replica-too-large",
  ] as const)("%s is about a client: its lines have the address", async (kind) => {
    const { lines } = await times(kind, false);
    for (const line of lines) expect(line["clientAddress"]).toMatch(/^192\.0\.2\./);
  });
});
