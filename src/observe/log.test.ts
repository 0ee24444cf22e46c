import { describe, expect, test } from "bun:test";
import pino from "pino";
import { FakeClock } from "../../test/support/fake-clock.ts";
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
const BYE = { code: 1000, reason: "bye" };
const REFUSED = {
  hub: "chat",
  status: 401,
  code: "token_expired",
  message: "the access token has expired",
  clientAddress: "192.0.2.1",
  isChainIgnored: false,
};

const LOST = {
  connectionId: "c1",
  hub: "chat",
  forwardedFor: "6.6.6.6, 9.9.9.9, 10.0.0.1",
  event: "message",
  eventId: "c1.4",
  cause: "not sent",
  count: 3,
} as const;

describe("createLogReport", () => {
  test("an event that was not delivered is a warning with connection, event, cause and count", () => {
    const { report, lines } = recording();
    report.undelivered(LOST);
    const { forwardedFor: _, ...shown } = LOST;
    expect(lines).toMatchObject([{ level: 40, ...shown, clientAddress: "9.9.9.9" }]);
  });

  test("a fault of the service is an error with its stack", () => {
    const { report, lines } = recording();
    report.fault("request", new Error("a bug"));
    expect(lines).toMatchObject([{ level: 50, where: "request", err: { message: "a bug" } }]);
    expect(JSON.stringify(lines)).toContain("log.test.ts");
  });

  test("opens and closes are left out at the default level, refusals are not", () => {
    const { report, lines } = recording("info");
    report.connectionOpened(FACTS);
    report.connectionClosed(FACTS, BYE);
    report.connectionRefused(REFUSED);
    const { message: cause, isChainIgnored: _, ...shown } = REFUSED;
    expect(lines).toMatchObject([{ level: 30, ...shown, cause }]);
    expect(lines[0]).not.toHaveProperty("note");
    const all = recording("debug");
    all.report.connectionOpened(FACTS);
    all.report.connectionClosed(FACTS, BYE);
    expect(all.lines).toMatchObject([
      { connectionId: "c1", clientAddress: "9.9.9.9" },
      { closeCode: 1000, closeReason: "bye", clientAddress: "9.9.9.9" },
    ]);
  });

  test("the line of a refused client whose X-Forwarded-For is not believed names trustedProxies", () => {
    const { report, lines } = recording();
    report.connectionRefused({ ...REFUSED, isChainIgnored: true });
    expect(lines[0]).toMatchObject({ clientAddress: "192.0.2.1", note: expect.stringContaining("trustedProxies") });
  });

  test("what a client writes into its close reason stays one line of JSON", () => {
    const written: string[] = [];
    const log = pino({ level: "debug" }, { write: (line: string) => void written.push(line) });
    const reason = 'a\n{"level":60}\u2028"';
    createLogReport(new LineSums(log, new FakeClock()), { clientOf }).connectionClosed(FACTS, { code: 4000, reason });
    expect(written).toHaveLength(1);
    expect(written[0]?.trimEnd()).not.toContain("\n");
    expect(JSON.parse(written[0] ?? "")).toMatchObject({ closeReason: 'a\n{"level":60}\u2028"' });
  });

  test("an upstream entry's breaker and token are told of", () => {
    const { report, lines } = recording();
    report.breakerOpened("upstreams[0]");
    report.breakerClosed("upstreams[0]");
    report.tokenFailed("upstreams[0]", "status 500");
    expect(lines).toMatchObject([
      { level: 40, entry: "upstreams[0]" },
      { level: 30, entry: "upstreams[0]" },
      { level: 40, entry: "upstreams[0]", detail: "status 500" },
    ]);
  });
});

type Report = ReturnType<typeof createLogReport>;
/** For each fact, what it is called with for the case of a number: another client, and where `isAnyHub` another of all else. */
type Samples<Facts> = {
  readonly [Name in keyof Facts]-?: Facts[Name] extends (...args: infer Args) => void
    ? (index: number, isAnyHub: boolean) => Args
    : Samples<Facts[Name]>;
};

const factsOf = (index: number, isAnyHub: boolean) => ({
  ...FACTS,
  connectionId: `c${index}`,
  hub: isAnyHub ? `hub${index}` : "chat",
  forwardedFor: `192.0.2.${index}, 10.0.0.1`,
});
const lostOf = (index: number, isAnyHub: boolean) => ({
  ...LOST,
  ...factsOf(index, isAnyHub),
  eventId: `c${index}.1`,
  cause: isAnyHub ? `cause ${index}` : "not sent",
  count: 1,
});
const word = (index: number, isAnyHub: boolean) => (isAnyHub ? `word ${index}` : "word");
const one = (index: number, isAnyHub: boolean): [string] => [word(index, isAnyHub)];
const two = (index: number, isAnyHub: boolean): [string, string] => ["upstreams[0]", word(index, isAnyHub)];
const none = (): [] => [];

const SAMPLES: Samples<Report> = {
  connectionOpened: (...of) => [factsOf(...of)],
  connectionClosed: (...of) => [factsOf(...of), { code: 4000, reason: `bye ${of[0]}` }],
  connectionRefused: (...of) => [{ ...REFUSED, hub: factsOf(...of).hub, clientAddress: `192.0.2.${of[0]}` }],
  clientLeft: (...of) => [factsOf(...of).hub, `192.0.2.${of[0]}`],
  acceptedLate: (...of) => [factsOf(...of)],
  undelivered: (...of) => [lostOf(...of)],
  deadLetter: (...of) => [lostOf(...of)],
  disconnectsWaiting: two,
  disconnectRefused: two,
  disconnectsFlowing: one,
  nodeTakenOver: (...of) => [word(...of), 1],
  takeoverFailed: two,
  fault: (...of) => ["request", new Error(word(...of))],
  breakerOpened: one,
  breakerClosed: one,
  tokenFailed: two,
  lateAnswerDropped: one,
  recovered: () => [1],
  rulesDamaged: two,
  rulesLost: one,
  rulesClock: one,
  fileRestored: two,
  fileLost: two,
  journalAbsent: one,
  certificateRenewed: one,
  certificateRefused: two,
  journal: { damaged: two, lost: one, unwritable: one, writable: none },
  nats: { up: one, down: one, refused: (...of) => [word(...of), 0] },
  copy: {
    stopped: one,
    copied: () => [1],
    missing: () => [1],
    fenced: one,
    tooLarge: (...of) => [factsOf(...of)],
    differs: one,
    skipped: (...of) => [word(...of), 1],
  },
  natsUnsafe: one,
  messagesDropped: (...of) => [1, word(...of)],
  nodesAwaited: (...of) => [[word(...of)]],
  leasesUnavailable: one,
  leasesAvailable: none,
  leasesRemade: () => [1],
  rulesRemade: () => [1],
  leaseIgnored: one,
  leaseLost: (...of) => [word(...of), "new", 1],
  rulesUnavailable: one,
};

type Call = (index: number, isAnyHub: boolean) => void;

/** Every fact of a report by its name, with its sample. */
function callsOf(facts: object, samples: object, path = ""): [string, Call][] {
  return Object.entries(samples).flatMap(([name, sample]) => {
    const member: unknown = Reflect.get(facts, name);
    if (typeof member !== "function") return callsOf(member as object, sample as object, `${name}.`);
    const call: Call = (...of) => member(...sample(...of));
    return [[path + name, call] as [string, Call]];
  });
}

describe("whatever happens a thousand times within a second", () => {
  const names = callsOf(recording().report, SAMPLES).map(([name]) => name);
  const times = async (name: string, isAnyHub: boolean) => {
    const { report, lines, clock } = recording();
    const call = callsOf(report, SAMPLES).find(([known]) => known === name)?.[1];
    for (let index = 0; index < 1000; index++) call?.(index, isAnyHub);
    await clock.advance(1000);
    const count = lines.reduce((sum, line) => sum + Number(line["count"] ?? 1), 0);
    return { lines, count };
  };

  test.each(names)("%s: is one line and a sum, which counts all of it", async (name) => {
    const { lines, count } = await times(name, false);
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

  test.each(names)("%s: however it differs, it is a bounded number of lines, which count all of it", async (name) => {
    const { lines, count } = await times(name, true);
    expect(lines.length).toBeLessThanOrEqual(66);
    expect(count).toBe(1000);
  });

  test.each([
    "connectionOpened",
    "connectionClosed",
    "connectionRefused",
    "clientLeft",
    "acceptedLate",
    "undelivered",
    "deadLetter",
  ])("%s is about a client: its lines have the address", async (name) => {
    const { lines } = await times(name, false);
    for (const line of lines) expect(line["clientAddress"]).toMatch(/^192\.0\.2\./);
  });
});
