import { expect, test } from "bun:test";
import fc from "fast-check";
import { CoreStage, connectRequest, someFacts } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, type LateHead, refused, type Scripted, unknown } from "../../test/support/scripted-upstream.ts";

/** Time-outs, late answers, failing disconnects and restarts in any order: what holds for all of them. Source: decision 0038. */

const OUTCOMES = {
  taken: () => answer(204),
  unwanted: () => answer(400),
  refused: () => answer(404),
  failed: () => answer(503),
  lost: () => unknown(),
  breaker: () => refused(),
} as const;

const LATE: Readonly<Record<string, LateHead>> = {
  accepted: { kind: "answer", status: 200, headers: [] },
  denied: { kind: "answer", status: 403, headers: [] },
  none: { kind: "none" },
};

/** What the backend says to the disconnect events of a connection, one after the other, and how long each takes it. */
const ANSWERS = fc.array(
  fc.record({
    outcome: fc.constantFrom(...(Object.keys(OUTCOMES) as (keyof typeof OUTCOMES)[])),
    takesMs: fc.constantFrom(0, 0, 100, 700, 3000),
  }),
  { maxLength: 6 },
);

const CONNECTION = fc.record({
  answers: ANSWERS,
  late: fc.constantFrom("accepted", "accepted", "denied", "none"),
  lateAfterMs: fc.integer({ min: 0, max: 6000 }),
});

/** One event as the backend saw it. */
interface Posted {
  readonly connectionId: string;
  readonly isSecond: boolean;
  readonly atMs: number;
  endedAs: string;
}

type Plan = typeof CONNECTION extends fc.Arbitrary<infer Value> ? Value : never;

/** Scripts one life of a process; returns the connections that are accepted late in it, as that happens. */
function live(stage: CoreStage, plans: readonly Plan[], posted: Posted[]): Set<string> {
  const accepted = new Set<string>();
  const left = new Map(plans.map(({ answers }, index) => [`c${index}`, [...answers]]));
  stage.upstream.script = (event) => {
    const { connectionId } = event.facts;
    if (event.name === "connect") return unknown({ late: lateOf(connectionId) });
    const next = left.get(connectionId)?.shift() ?? { outcome: "taken", takesMs: 0 };
    const entry: Posted = {
      connectionId,
      isSecond: event.eventId.endsWith(".2"),
      atMs: stage.clock.now(),
      endedAs: "under way",
    };
    posted.push(entry);
    const end = (): Scripted => {
      entry.endedAs = next.outcome;
      return OUTCOMES[next.outcome as keyof typeof OUTCOMES]();
    };
    if (next.takesMs === 0) return end();
    stage.clock.after(next.takesMs, () => stage.upstream.held.find((call) => call.event === event)?.settle(end()));
    return null;
  };
  const lateOf = (connectionId: string) => {
    const plan = plans[Number(connectionId.slice(1))] as Plan;
    const { promise, resolve } = Promise.withResolvers<LateHead>();
    stage.clock.after(plan.lateAfterMs, () => {
      if (plan.late === "accepted") accepted.add(connectionId);
      resolve(LATE[plan.late] as LateHead);
    });
    return promise;
  };
  return accepted;
}

function connectAll(stage: CoreStage, plans: readonly Plan[]): void {
  for (const index of plans.keys()) {
    const facts = someFacts({ connectionId: `c${index}` });
    void stage.admission.connect(connectRequest(facts));
  }
}

/** Of each connection no first event comes behind a second one, and never two at once. */
function expectOrder(stage: CoreStage, posted: readonly Posted[]): void {
  expect(stage.upstream.overlaps).toEqual([]);
  for (const { connectionId, isSecond } of posted) {
    if (isSecond) continue;
    const own = posted.filter((one) => one.connectionId === connectionId);
    const firstSecond = own.findIndex((one) => one.isSecond);
    if (firstSecond !== -1) expect(own.slice(firstSecond).every((one) => one.isSecond)).toBe(true);
  }
}

function isOver({ endedAs }: Posted): boolean {
  return endedAs === "taken" || endedAs === "unwanted";
}

const OPTIONS = { retryForSeconds: 1_000_000, retryRefusedForSeconds: 1_000_000, maxPerSecond: 1000 };
const RUNS = { numRuns: 200 };

test("each time-out has its first event, and a second one exactly where connect was accepted late", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(CONNECTION, { minLength: 1, maxLength: 4 }), async (plans) => {
      const stage = new CoreStage(OPTIONS);
      const posted: Posted[] = [];
      const accepted = live(stage, plans, posted);
      connectAll(stage, plans);
      // A look at the journal at any moment finds nothing that is not to be sent now.
      for (let step = 0; step < 20; step++) {
        await stage.clock.advance(300);
        stage.redelivery.start();
      }
      await stage.clock.advance(400_000);
      stage.stop();
      expectOrder(stage, posted);
      for (const index of plans.keys()) {
        const own = posted.filter(({ connectionId }) => connectionId === `c${index}`);
        const [firsts, seconds] = [own.filter((one) => !one.isSecond), own.filter((one) => one.isSecond)];
        expect(firsts.filter(isOver)).toHaveLength(1);
        expect(seconds.filter(isOver)).toHaveLength(accepted.has(`c${index}`) ? 1 : 0);
        if (!accepted.has(`c${index}`)) expect(seconds).toEqual([]);
      }
      expect(await stage.journal.waiting(0, 10)).toEqual([]);
      expect([stage.outstanding.count, stage.redelivery.waitingCount]).toEqual([0, 0]);
    }),
    RUNS,
  );
});

test("a process that is killed at any moment loses no event: the next one sends what is owed", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(CONNECTION, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 0, max: 8000 }),
      async (plans, killedAfterMs) => {
        const first = new CoreStage(OPTIONS);
        const { journal } = first;
        const posted: Posted[] = [];
        const accepted = live(first, plans, posted);
        connectAll(first, plans);
        await first.clock.advance(killedAfterMs);
        first.stop();
        expectOrder(first, posted);
        const owedSecond = new Set(accepted);
        for (const one of posted) if (one.isSecond && isOver(one)) owedSecond.delete(one.connectionId);
        const next = new CoreStage(OPTIONS, journal);
        const later: Posted[] = [];
        live(next, plans, later);
        await journal.recover({ code: 1006, reason: "gateway restarted" }, 0);
        next.redelivery.start();
        await next.clock.advance(400_000);
        next.stop();
        await settled();
        expectOrder(next, later);
        for (const index of plans.keys()) {
          const id = `c${index}`;
          expect([...posted, ...later].some((one) => one.connectionId === id && isOver(one))).toBe(true);
          if (!owedSecond.has(id)) continue;
          expect(later.filter((one) => one.connectionId === id && one.isSecond && isOver(one))).toHaveLength(1);
        }
        expect(await journal.waiting(0, 10)).toEqual([]);
      },
    ),
    RUNS,
  );
});
