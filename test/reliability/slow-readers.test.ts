import { expect, setDefaultTimeout, test } from "bun:test";
import { within } from "../support/deadline.ts";
import { Audience, percentile } from "./broadcast/audience.ts";
import { IS_LONG, inForm, recordFigure } from "./support/form.ts";

/**
 * Clients that do not read, or hardly, among others while messages go to all of them: they are cut with 1013, each has its
 * disconnect, and the others notice nothing.
 *
 * The kernel takes about 2.7 MB for each slow client before anything waits in the gateway.
 */
setDefaultTimeout(10 * 60_000);

const LIMITS = { maxOutboxBytes: 524_288 };

/** Messages of 64 KiB between two reads of a trickling client, which takes up to half a megabyte each time. */
const NUDGE_EVERY = 40;

const FAST = inForm({ short: 40, long: 800 });
const SLOW = inForm({ short: 10, long: 200 });

test(`${SLOW} slow readers are cut with 1013 and have their disconnect; ${FAST} others get every message in order`, async () => {
  await using audience = await Audience.gather({ fast: FAST, slow: SLOW, limits: LIMITS });
  // One at a time, each delivered before the next: however fast the machine is, no fast client can fall behind.
  let sent = 0;
  for (; audience.slowEnds().length < SLOW && sent < 400; sent++) {
    await audience.broadcast(65_536);
    await audience.delivered();
    if (sent % NUDGE_EVERY === 0) audience.nudge();
  }
  await audience.backend.ledger.until(() => audience.slowEnds().length === SLOW, "the slow clients' disconnects");
  expect(audience.slowEnds()).toEqual(Array(SLOW).fill("1013 slow consumer"));

  for (const receiver of audience.slow) receiver.resume();
  await within(Promise.all(audience.slow.map(({ ended }) => ended)), "the end of the slow clients' streams");
  // Up to its end a slow client misses nothing; then it learns that it ends, by the code or by the cut.
  expect(audience.slow.map(({ gap }) => gap)).toEqual(Array(SLOW).fill(null));
  for (const { closeCode, received } of audience.slow) {
    expect([1013, null]).toContain(closeCode);
    expect(received).toBeLessThan(sent);
  }

  expect(audience.fast.map(({ received, gap }) => ({ received, gap }))).toEqual(
    Array(FAST).fill({ received: sent, gap: null }),
  );
  await Promise.all(audience.fast.map((receiver) => receiver.leave()));
  await audience.backend.ledger.settled();
  const { owed, duplicates, acceptedCount } = audience.backend.ledger;
  expect([owed, duplicates, acceptedCount]).toEqual([0, 0, FAST + SLOW]);
  const left = await audience.gateway.probe([{ hub: "chat", kind: "hub", name: "chat" }]);
  expect([left.connections, left.indexEntries, left.faults]).toEqual([0, 0, []]);
  recordFigure(
    `${SLOW} slow readers among ${FAST + SLOW}: cut with 1013 and disconnect sent`,
    `${SLOW}; messages missing at the others: 0 of ${sent * FAST}`,
    "all; 0",
  );
});

if (IS_LONG) {
  const ROUNDS = 3;
  const LOAD = { byteCount: 16_384, perSecond: 15 };
  const MESSAGES = 20 * LOAD.perSecond;
  const MAX_RATIO = 2;

  const round = async (slow: number): Promise<number> => {
    await using audience = await Audience.gather({ fast: FAST, slow, limits: LIMITS });
    await audience.broadcastAtRate(MESSAGES, LOAD);
    // The load must have been enough to cut those who read nothing, or it shows little.
    const cut = (): number => audience.slowEnds().length;
    await audience.backend.ledger.until(() => cut() >= slow / 2, "the disconnects of half of the slow clients");
    return percentile(audience.latenciesMs, 0.99);
  };

  test(`the others' p99 with ${SLOW} slow readers is within ${MAX_RATIO} times that without`, async () => {
    const without: number[] = [];
    const among: number[] = [];
    // In turns, so that what else the machine does meets both alike; the middle round of each counts.
    for (let i = 0; i < ROUNDS; i++) {
      without.push(await round(0));
      among.push(await round(SLOW));
    }
    const [alone, together] = [percentile(without, 0.5), percentile(among, 0.5)];
    const show = (values: readonly number[]): string => values.map((value) => value.toFixed(1)).join(", ");
    recordFigure(
      `p99 of a delivery, ${FAST} readers, ${LOAD.perSecond} messages of ${LOAD.byteCount} bytes a second; the same with ${SLOW} slow readers`,
      `${alone.toFixed(1)} ms (${show(without)}); ${together.toFixed(1)} ms (${show(among)}): × ${(together / alone).toFixed(2)}`,
      `× ${MAX_RATIO}`,
    );
    expect(together / alone).toBeLessThan(MAX_RATIO);
  });
}
