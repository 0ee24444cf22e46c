import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { FuzzRun, WORKERS } from "./fuzz/fuzz-run.ts";
import { formatMegabytes, IS_LONG, inForm, recordFigure } from "./support/form.ts";
import type { Probe } from "./support/probed-gateway.ts";

/**
 * Frames, handshakes, REST requests and upstream answers with broken places, over raw sockets against a gateway's process.
 *
 * HUBWIRE_FUZZ_SEED repeats a run; each case's bytes come from the seed and its number alone.
 */
setDefaultTimeout(10 * 60_000);

const SEED = Number(process.env["HUBWIRE_FUZZ_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const CASES = inForm({ short: 4000, long: 100_000 });
const BLOCKS = 10;
/**
 * How far the lowest of the last blocks may be above the highest of the first half: RSS moves by 40 MB up and down. A leak of
 * 1 kB a case would be 30 MB; the 10,000 REST tokens whose signature is remembered are 10 MB, most of them from the first half.
 */
const MAX_GROWTH_BYTES = { rssBytes: 25_000_000, heapBytes: 10_000_000 };
const LAST_BLOCKS = 3;
/** Sockets to the two backends stay open for a while, at most one for each client at a time and backend. */
const MAX_SPARE_DESCRIPTORS = 2 * WORKERS;
/** Maps and Sets that come and go with the process's own work: far fewer than a block has connections. */
const MAX_SPARE_OBJECTS = 40;

let run: FuzzRun;
const probes: Probe[] = [];

beforeAll(async () => {
  console.log(`HUBWIRE_FUZZ_SEED=${SEED}`);
  run = await FuzzRun.start(SEED);
});
afterAll(async () => {
  await run?.[Symbol.asyncDispose]();
});

describe(`${CASES} fuzzed cases`, () => {
  test("each ends with an answer or a close that the protocols know, and the process lives", async () => {
    const startedMs = performance.now();
    probes.push(await run.emptied(1));
    for (let block = 0; block < BLOCKS; block++) {
      await run.cases((block * CASES) / BLOCKS, ((block + 1) * CASES) / BLOCKS);
      probes.push(await run.emptied(1));
    }
    expect(run.failures).toEqual([]);
    const counts = [...run.counts].map(([kind, count]) => `${count} ${kind}`).sort();
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
    recordFigure(`Fuzzer, seed ${SEED}: cases`, `${CASES} in ${seconds} s (${counts.join(", ")})`, "no crash");
  });

  test("every accepted connection has its one disconnect", () => {
    const { acceptedCount, owed, duplicates } = run.ledger;
    // One resident is still there.
    expect([owed, duplicates]).toEqual([1, 0]);
    expect(acceptedCount).toBeGreaterThan(CASES / 5);
    recordFigure("Fuzzer: disconnects missing", `0 of ${acceptedCount - 1} accepted connections`, "0");
  });

  test("no connection and no index entry is left, and no fault was logged", async () => {
    const [empty] = probes;
    expect(empty?.connections).toBe(1);
    for (const probe of probes) {
      expect(probe.connections).toBe(1);
      expect(probe.faults).toEqual([]);
      expect(probe.sets).toBeLessThan((empty?.sets ?? 0) + MAX_SPARE_OBJECTS);
      expect(probe.maps).toBeLessThan((empty?.maps ?? 0) + MAX_SPARE_OBJECTS);
      expect(probe.descriptors).toBeLessThan((empty?.descriptors ?? 0) + MAX_SPARE_DESCRIPTORS);
    }
    const last = await run.emptied(0);
    expect([last.connections, last.indexEntries]).toEqual([0, 0]);
    recordFigure("Fuzzer: connections and index entries left", "0", "0");
  });

  test("the gateway serves a normal cycle, and stops in good order", async () => {
    await run.cycle();
    expect(await run.gateway.stop()).toEqual([]);
  });

  // The short form is over before the process is warm: its memory says nothing.
  if (!IS_LONG) return;
  test.each([
    ["RSS", "rssBytes"],
    ["heap", "heapBytes"],
  ] as const)("memory is flat: %s", (name, measure) => {
    const levels = probes.slice(1).map((probe) => probe[measure]);
    const firstHalfBytes = Math.max(...levels.slice(0, BLOCKS / 2));
    const endBytes = Math.min(...levels.slice(-LAST_BLOCKS));
    const maxBytes = MAX_GROWTH_BYTES[measure];
    recordFigure(
      `Fuzzer: ${name} after each tenth of the cases`,
      levels.map(formatMegabytes).join(", "),
      `the lowest of the last ${LAST_BLOCKS} within ${formatMegabytes(maxBytes)} of the first half's highest`,
    );
    expect(endBytes - firstHalfBytes).toBeLessThan(maxBytes);
  });
});
