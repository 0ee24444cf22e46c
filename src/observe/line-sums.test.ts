import { describe, expect, test } from "bun:test";
import pino from "pino";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { type LineFacts, LineSums } from "./line-sums.ts";

function stage(level = "info") {
  const written: Record<string, unknown>[] = [];
  const log = pino(
    { level, base: null, timestamp: false },
    { write: (line: string) => void written.push(JSON.parse(line)) },
  );
  const clock = new FakeClock();
  const sums = new LineSums(log, clock);
  const refuse = (hub: string, clientAddress: string, facts: LineFacts = {}) =>
    sums.write({ level: "info", message: "refused", kind: "code", facts: { hub, clientAddress, ...facts } });
  /** What has been written since the last call. */
  const take = () => written.splice(0).map(({ level: _, ...line }) => line);
  return { sums, clock, refuse, take };
}

describe("LineSums", () => {
  test("writes the first line at once, and those that equal it at the end of the second", async () => {
    const { clock, refuse, take } = stage();
    refuse("chat", "192.0.2.1", { id: 1 });
    expect(take()).toEqual([{ msg: "refused", hub: "chat", clientAddress: "192.0.2.1", id: 1 }]);
    for (const [id, host] of [2, 3, 2, 3].entries()) refuse("chat", `192.0.2.${host}`, { id });
    await clock.advance(999);
    expect(take()).toEqual([]);
    await clock.advance(1);
    expect(take()).toEqual([
      { msg: "refused", hub: "chat", clientAddress: "192.0.2.2", id: 0, count: 4, addresses: 2 },
    ]);
  });

  test("writes one line a second while they go on, and the next one at once after a second without", async () => {
    const { clock, refuse, take } = stage();
    for (let second = 0; second < 5; second++) {
      for (let i = 0; i < 100; i++) refuse("chat", "192.0.2.1");
      await clock.advance(1000);
      expect(take()).toHaveLength(second === 0 ? 2 : 1);
    }
    await clock.advance(1000);
    expect([take(), clock.timerCount]).toEqual([[], 0]);
    refuse("chat", "192.0.2.1");
    expect(take()).toHaveLength(1);
  });

  test("writes a sum of one line as that line", async () => {
    const { clock, refuse, take } = stage();
    refuse("chat", "192.0.2.1");
    refuse("chat", "192.0.2.2");
    take();
    await clock.advance(1000);
    expect(take()).toEqual([{ msg: "refused", hub: "chat", clientAddress: "192.0.2.2" }]);
  });

  test("tells apart hubs, kinds, details, levels and messages, and not how a hub is written", () => {
    const { sums, refuse, take } = stage();
    refuse("chat", "192.0.2.1");
    refuse("CHAT", "192.0.2.1");
    refuse("other", "192.0.2.1");
    const facts = { hub: "chat" };
    sums.write({ level: "info", message: "refused", kind: "another", facts });
    sums.write({ level: "info", message: "refused", kind: "code", detail: "detail", facts });
    sums.write({ level: "warn", message: "refused", kind: "code", facts });
    sums.write({ level: "info", message: "another", kind: "code", facts });
    expect(take()).toHaveLength(6);
  });

  test("adds up the counts of lines about several events", async () => {
    const { clock, refuse, take } = stage();
    refuse("chat", "192.0.2.1", { count: 5 });
    for (let i = 0; i < 3; i++) refuse("chat", "192.0.2.1", { count: 10 });
    await clock.advance(1000);
    expect(take().map(({ count }) => count)).toEqual([5, 30]);
  });

  test("sums over all hubs once there are too many to tell apart, and counts every line", async () => {
    const { clock, refuse, take } = stage();
    for (let second = 0; second < 3; second++) {
      for (let i = 0; i < 10_000; i++) refuse(`hub${second}x${i}`, "192.0.2.1");
      await clock.advance(1000);
      const lines = take();
      expect(lines.length).toBeLessThanOrEqual(66);
      expect(lines.reduce((sum, { count = 1 }) => sum + Number(count), 0)).toBe(10_000);
      expect(lines.find(({ hub }) => hub === "*")).toMatchObject({ clientAddress: "192.0.2.1", addresses: 1 });
    }
  });

  test("counts different addresses up to a bound, and says where there were more", async () => {
    const { clock, refuse, take } = stage();
    const flood = (count: number) => {
      for (let i = 0; i < count; i++) refuse(i % 2 === 0 ? "chat" : "other", `2001:db8::${i.toString(16)}`);
    };
    flood(9000);
    await clock.advance(1000);
    expect(take().map(({ addresses }) => addresses)).toEqual([undefined, undefined, 4499, 4499]);
    flood(20_000);
    await clock.advance(1000);
    expect(take().map(({ addressesAtLeast }) => addressesAtLeast)).toEqual([5000, 5000]);
    // The bound holds for one second.
    flood(1000);
    await clock.advance(1000);
    expect(take().map(({ addresses }) => addresses)).toEqual([500, 500]);
  });

  test("cuts texts that are too long, and an address that is no address", () => {
    const { refuse, take } = stage();
    refuse("chat", "x".repeat(16_000), { cause: "y".repeat(16_000), note: "z".repeat(1000) });
    const [line] = take();
    expect([line?.["clientAddress"], line?.["cause"]]).toEqual(["x".repeat(64), "y".repeat(1000)]);
    expect(line?.["note"]).toBe("z".repeat(1000));
  });

  test("leaves out what the log's level leaves out, and keeps nothing of it", () => {
    const { sums, clock, take } = stage();
    sums.write({ level: "debug", message: "opened", facts: {} });
    expect([take(), clock.timerCount]).toEqual([[], 0]);
  });

  test("stop writes what was summed up and leaves no timer; later lines are written one by one", async () => {
    const { sums, clock, refuse, take } = stage();
    for (let i = 0; i < 3; i++) refuse("chat", "192.0.2.1");
    sums.stop();
    sums.stop();
    expect(take().map(({ count }) => count)).toEqual([undefined, 2]);
    for (let i = 0; i < 3; i++) refuse("chat", "192.0.2.1");
    expect([take().length, clock.timerCount]).toEqual([3, 0]);
  });
});
