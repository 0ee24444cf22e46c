import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { CommandGateway } from "../support/command-gateway.ts";
import { within } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { Stack } from "../support/stack.ts";
import { healthy, OutageStage } from "./outage/stage.ts";
import { formatMegabytes, IS_LONG, inForm, recordFigure } from "./support/form.ts";
import { type Call, LedgerBackend, orderly, type Reply } from "./support/ledger-backend.ts";

/**
 * Outages of the backend: no disconnect is lost, the gateway's memory stays bounded, another upstream's traffic does not
 * wait, and soon after the return everything is delivered. Source: PROTOCOL.md, "When it is tried again".
 */
setDefaultTimeout(10 * 60_000);

const LEAVING = inForm({ short: 120, long: 500 });
const OUTAGE_MS = inForm({ short: 2500, long: 30_000 });
const MAX_GROWTH_BYTES = 64_000_000;

/** Never: the caller's deadline ends it. */
const silent = (): Promise<Reply> => new Promise<Reply>(() => {});

const cut = (status: string): Reply => ({ pieces: [status], ending: "reset", accepted: false });

const OUTAGES: readonly (readonly [string, ((call: Call) => Reply | Promise<Reply>) | null])[] = [
  ["down", null],
  ["answering 500", () => orderly(500)],
  ["answering 429 with Retry-After: 1", () => orderly(429, ["Retry-After: 1"])],
  ["cutting connections before an answer", () => cut("")],
  ["cutting connections in the middle of an answer", () => cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")],
  ["never answering", silent],
];

describe.each(OUTAGES)("a backend %s", (name, respond) => {
  test(`for ${OUTAGE_MS} ms while ${LEAVING} clients leave: lost = 0`, async () => {
    await using stage = await OutageStage.start({ timeoutMs: 500 });
    const leaving = await Promise.all(Array.from({ length: LEAVING }, () => stage.open("outage")));
    const chatter = await stage.open("other");
    const before = await stage.gateway.probe();
    await stage.fail(respond);
    const until = performance.now() + OUTAGE_MS;
    for (const client of leaving) client.close(4001, "gone");
    let chats = 0;
    let knocks = 0;
    let refusals = 0;
    while (performance.now() < until) {
      chatter.text(`message ${chats}`);
      expect(await chatter.nextText()).toBe(`message ${chats}`);
      chats++;
      if (chats % 10 !== 0) continue;
      knocks++;
      const { status, retryAfter } = await stage.knock();
      if (status === 503 && retryAfter !== "") refusals++;
    }
    const during = await stage.gateway.probe();
    expect(stage.tally.owed).toBeGreaterThanOrEqual(LEAVING - 1);

    await stage.recover();
    const returnedAt = performance.now();
    const atReturn = stage.tally.deliveredCount;
    const after = async (count: number): Promise<number> => {
      await stage.tally.until(Math.min(stage.tally.acceptedCount, atReturn + count));
      return (performance.now() - returnedAt) / 1000;
    };
    const [first, hundred] = [await after(1), await after(100)];
    await stage.tally.settled();
    chatter.close(1000);
    await stage.other.ledger.settled();
    const { owed, duplicates, acceptedCount } = stage.tally;
    console.log(
      `${name}: accepted ${acceptedCount}, lost = ${owed}, duplicates = ${duplicates}, first after ${first.toFixed(1)} s,`,
      `100 after ${hundred.toFixed(1)} s, ${refusals} of ${knocks} refused with Retry-After, ${chats} chats meanwhile`,
    );
    expect(owed).toBe(0);
    expect(chats).toBeGreaterThan(0);
    // The breaker must have seen too much, or what is below was not put to the test.
    if (name !== "answering 429 with Retry-After: 1") expect(refusals).toBeGreaterThan(0);
    const { faults } = await stage.gateway.probe();
    expect(faults).toEqual([]);
    recordFigure(`backend ${name}, ${LEAVING} clients leave: lost; duplicates`, `${owed}; ${duplicates}`, "0; said");
    // 429 is no failure for the breaker, so nothing but the lane's own pauses, of up to 30 s, finds out that it is over.
    if (!IS_LONG || name.includes("429")) return;
    const growth = during.rssBytes - before.rssBytes;
    recordFigure(
      `… first answered; 100 answered after its return`,
      `${first.toFixed(2)} s; ${hundred.toFixed(2)} s`,
      "2 s; 10 s",
    );
    recordFigure(`… memory grown meanwhile`, formatMegabytes(growth), formatMegabytes(MAX_GROWTH_BYTES));
    expect(first).toBeLessThanOrEqual(2);
    expect(hundred).toBeLessThanOrEqual(10);
    expect(growth).toBeLessThanOrEqual(MAX_GROWTH_BYTES);
  });
});

test("a slow backend gets every disconnect once", async () => {
  await using stage = await OutageStage.start({});
  const clients = await Promise.all(Array.from({ length: LEAVING }, () => stage.open("outage")));
  await stage.fail(async (call) => {
    await Bun.sleep(inForm({ short: 500, long: 3000 }));
    stage.tally.take(call);
    return healthy(call);
  });
  for (const client of clients) client.close(4001, "gone");
  await stage.tally.settled();
  expect([stage.tally.owed, stage.tally.duplicates, stage.tally.acceptedCount]).toEqual([0, 0, LEAVING]);
});

test("while the breaker is open messages close with 1011, connects are 503, and one waiting disconnect is its probe", async () => {
  const breaker = { failureRatio: 0.5, minCalls: 2, windowMs: 60_000 };
  await using stack = await Stack.start({ upstreams: [{ breaker }] });
  stack.behave();
  const [leaving, talking, ...others] = await Promise.all([1, 2, 3, 4].map(() => stack.open()));
  stack.backend.onMessage = (exchange) => exchange.reply(500);
  stack.backend.onDisconnect = (exchange) => exchange.reply(500);
  leaving?.close(1000);
  talking?.text("answered with 500, which is an answer");
  await stack.gateway.logged("circuit breaker opened: connect and message events are refused");
  for (const client of others) client.text("not posted");
  for (const client of others) {
    expect(await client.closed()).toEqual({ code: 1011, reason: "upstream unavailable" });
  }
  const refused = await (await stack.request()).answer();
  expect([refused.status, refused.head.all("retry-after")]).toEqual([503, ["1"]]);
  stack.behave();
  await stack.gateway.logged("circuit breaker closed");
  await stack.cycle();
});

test("SIGTERM during an outage: exit 0 in time, and the next start delivers what is left with its own end", async () => {
  const clientCount = inForm({ short: 20, long: 200 });
  let isDown = false;
  const ends: string[] = [];
  await using backend = await LedgerBackend.start({
    respond: (call) => {
      if (isDown) return orderly(500);
      if (call.event === "disconnect") {
        ends.push(`${call.header("x-hubwire-close-code")} ${call.header("x-hubwire-close-reason")}`);
      }
      return healthy(call);
    },
  });
  const config = {
    accessKeys: KEYS,
    upstreams: [{ urlTemplate: backend.urlTemplate }],
    shutdown: { spreadMs: 200, drainTimeoutMs: 3000 },
  };
  await using first = await CommandGateway.start({ through: "bun", config });
  const clients = await Promise.all(Array.from({ length: clientCount }, () => RawWebSocket.open({ port: first.port })));
  isDown = true;
  first.kill("SIGTERM");
  for (const client of clients) expect((await client.closed()).code).toBe(1012);
  expect(await within(first.ended, "the exit")).toBe(0);
  isDown = false;
  for (const account of backend.ledger.accounts.values()) account.disconnects = 0;
  await using _next = await CommandGateway.start({ through: "bun", config: { ...config, dataDir: first.dataDir } });
  await backend.ledger.until(() => ends.length >= clientCount, "the disconnects after the restart");
  expect(ends).toEqual(Array(clientCount).fill("1012 shutting down"));
});
