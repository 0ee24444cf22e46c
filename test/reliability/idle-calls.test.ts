import { expect, setDefaultTimeout, test } from "bun:test";
import { target } from "../support/rest-operations.ts";
import { RestStage } from "../support/rest-stage.ts";
import { IS_LONG, recordFigure } from "./support/form.ts";

/**
 * A load balancer keeps idle connections for 60 s and more, and calls over one of them at any moment of that time. hubwire keeps them for
 * longer (`listen.keepAliveMs`), so no call meets a connection that is being closed.
 */
setDefaultTimeout(10 * 60_000);

const CONNECTIONS = 200;
const ROUNDS = 2;

/** From 56 s to 71 s, around the usual idle time of balancers, and below the 75 s that the answers promise. */
const idleMs = (index: number, round: number): number => 56_000 + ((index * 7 + round * 3) % 151) * 100;

const SEND = { method: "POST", target: target("broadcast", "chat"), type: "text/plain", body: "hello" };

// Real minutes: the short form is test/e2e/rest-keep-alive.test.ts.
test.if(IS_LONG)("calls over connections that were idle for around a minute fail 0 times", async () => {
  await using stage = await RestStage.start();
  let closedCount = 0;
  let callCount = 0;
  const statuses = new Map<number | string, number>();
  const callOnce = async (caller: Awaited<ReturnType<typeof stage.caller>>) => {
    callCount++;
    const status = await caller.call(SEND).then((answer) => answer.status, String);
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  };
  const useOne = async (index: number) => {
    const caller = await stage.caller();
    let isOver = false;
    const onEnd = () => {
      if (!isOver) closedCount++;
    };
    void caller.ended(10 * 60_000).then(onEnd, () => {});
    await callOnce(caller);
    for (let round = 0; round < ROUNDS; round++) {
      await Bun.sleep(idleMs(index, round));
      await callOnce(caller);
    }
    isOver = true;
    caller.destroy();
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, (_empty, index) => useOne(index)));
  recordFigure(
    `${callCount} calls over connections that were idle for 56 to 71 s: failed; closed early`,
    `${callCount - (statuses.get(202) ?? 0)}; ${closedCount}`,
    "0; 0",
  );
  expect([...statuses]).toEqual([[202, CONNECTIONS * (ROUNDS + 1)]]);
  expect(closedCount).toBe(0);
});
