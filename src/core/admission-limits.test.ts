import { heapStats } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { CoreStage } from "../../test/support/core-stage.ts";

describe("limits", () => {
  test("maxConnections counts open connections and handshakes together: the limit passes, one more is 503", () => {
    const stage = new CoreStage({ maxConnections: 3 });
    stage.open();
    expect(stage.admission.reserve("a")).toBeNull();
    expect(stage.admission.reserve("a")).toBeNull();
    expect(stage.admission.reserve("a")).toMatchObject({ status: 503, code: "connection_limit" });
    stage.admission.release("a");
    expect(stage.admission.reserve("a")).toBeNull();
  });

  test("a connection that has closed gives its place back", async () => {
    const stage = new CoreStage({ maxConnections: 1 });
    const client = stage.open();
    expect(stage.admission.reserve("a")?.code).toBe("connection_limit");
    await client.leave();
    expect(stage.admission.reserve("a")).toBeNull();
  });

  test("maxPendingUpgrades passes the limit; one more is 503 with Retry-After, until one is over", () => {
    const stage = new CoreStage({ maxPendingUpgrades: 2 });
    expect([stage.admission.reserve("a"), stage.admission.reserve("a")]).toEqual([null, null]);
    expect(stage.admission.reserve("a")).toMatchObject({
      status: 503,
      code: "pending_upgrade_limit",
      headers: { "Retry-After": "1" },
    });
    stage.admission.release("a");
    expect(stage.admission.reserve("a")).toBeNull();
  });

  test("maxPendingUpgradesPerAddress passes the limit; one more of the address is 429, until one is over; others pass", () => {
    const stage = new CoreStage({ maxPendingUpgrades: 9, maxPendingUpgradesPerAddress: 2 });
    expect([stage.admission.reserve("a"), stage.admission.reserve("a")]).toEqual([null, null]);
    expect(stage.admission.reserve("a")).toMatchObject({
      status: 429,
      code: "pending_upgrade_rate",
      target: "maxPendingUpgradesPerAddress",
      headers: { "Retry-After": "1" },
    });
    expect(stage.admission.reserve("b")).toBeNull();
    stage.admission.release("b");
    expect(stage.admission.reserve("a")?.status).toBe(429);
    stage.admission.release("a");
    expect([stage.admission.reserve("a"), stage.admission.reserve("a")?.status]).toEqual([null, 429]);
  });

  test.each([
    [1024, 256],
    [5, 2],
    [4, 1],
    [1, 1],
  ])("of maxPendingUpgrades %d one address may have %d where nothing else is said", (maxPendingUpgrades, share) => {
    const stage = new CoreStage({ maxPendingUpgrades, maxPendingUpgradesPerAddress: null, maxConnections: 9999 });
    for (let i = 0; i < share; i++) expect(stage.admission.reserve("a")).toBeNull();
    expect([429, 503]).toContain(stage.admission.reserve("a")?.status ?? 0);
    if (share < maxPendingUpgrades) expect(stage.admission.reserve("b")).toBeNull();
  });

  test("connectsPerSecondPerAddress passes the limit; one more is 429; other addresses and later times pass", async () => {
    const stage = new CoreStage({ connectsPerSecondPerAddress: 2 });
    expect([stage.admission.reserve("a"), stage.admission.reserve("a")]).toEqual([null, null]);
    expect(stage.admission.reserve("a")).toMatchObject({ status: 429, headers: { "Retry-After": "1" } });
    expect(stage.admission.reserve("b")).toBeNull();
    await stage.clock.advance(500);
    expect(stage.admission.reserve("a")).toBeNull();
    expect(stage.admission.reserve("a")?.status).toBe(429);
  });

  test("the connection limit is told before the rate, and takes nothing from it", () => {
    const stage = new CoreStage({ maxConnections: 1, connectsPerSecondPerAddress: 1 });
    stage.admission.reserve("other");
    for (let i = 0; i < 3; i++) expect(stage.admission.reserve("a")?.status).toBe(503);
    stage.admission.release("a");
    expect(stage.admission.reserve("a")).toBeNull();
  });

  test("once closed, nobody gets a place", () => {
    const stage = new CoreStage();
    stage.admission.close();
    expect(stage.admission.reserve("a")).toMatchObject({ status: 503, code: "shutting_down" });
  });
});

test("reconfigure brings the new rate of connects, and forgets who used up the old one", () => {
  const stage = new CoreStage({ connectsPerSecondPerAddress: 1 });
  expect([stage.admission.reserve("a"), stage.admission.reserve("a")?.code]).toEqual([null, "connect_rate"]);
  stage.options.connectsPerSecondPerAddress = 2;
  stage.admission.reconfigure();
  const codes = [1, 2, 3].map(() => stage.admission.reserve("a")?.code);
  expect(codes).toEqual([undefined, undefined, "connect_rate"]);
});

test("addresses are forgotten once their allowance is full", async () => {
  const stage = new CoreStage({ connectsPerSecondPerAddress: 5, maxPendingUpgrades: 1e6, maxConnections: 1e6 });
  const stringCount = () => {
    Bun.gc(true);
    return heapStats().objectTypeCounts["string"] ?? 0;
  };
  const before = stringCount();
  for (let i = 0; i < 5000; i++) {
    const address = `10.0.${i >> 8}.${i & 255}`;
    stage.admission.reserve(address);
    stage.admission.release(address);
  }
  expect(stringCount()).toBeGreaterThan(before + 4000);
  await stage.clock.advance(2000);
  expect(stringCount()).toBeLessThan(before + 1000);
  // Used last of all, so that the stage itself was not what was collected.
  stage.stop();
});
