import { describe, expect, test } from "bun:test";
import pino from "pino";
import { createLogReport } from "./log.ts";

/** The last hop but one, as if the proxy in front were trusted. */
const clientOf = (forwardedFor: string) => forwardedFor.split(", ").at(-2) ?? "";

/** A report and the lines that it has written. */
function recording(level = "trace") {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { report: createLogReport(log, { clientOf }), lines };
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

  test("a fault of ours is an error with its stack", () => {
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
    createLogReport(log, { clientOf }).connectionClosed(FACTS, { code: 4000, reason });
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

test("the process's log goes to standard error as JSON lines, at level info, and is there when the process ends", () => {
  const script = `import { createLog } from "./log.ts";
    const log = createLog();
    log.debug("left out");
    log.info({ hub: "chat" }, "written");
    process.exit(0);`;
  const { stdout, stderr } = Bun.spawnSync([process.execPath, "-e", script], { cwd: import.meta.dir });
  expect(stdout.toString()).toBe("");
  const lines = stderr.toString().trimEnd().split("\n");
  expect(lines).toHaveLength(1);
  const { time, ...line } = JSON.parse(lines[0] ?? "") as Record<string, unknown>;
  expect(line).toEqual({ level: 30, hub: "chat", msg: "written" });
  expect(String(time)).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
});
