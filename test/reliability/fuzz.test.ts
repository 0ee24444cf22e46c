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
/** Blocks after which the process is warm: code compiled, caches of tokens and sockets full. */
const WARM_BLOCKS = 3;
/** What may be held more at the end than when it was warm. A leak of 1 kB for each of the cases since would be 70 MB. */
const MAX_GROWTH_BYTES = 20_000_000;
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
    probes.push(await run.emptied());
    for (let block = 0; block < BLOCKS; block++) {
      await run.cases((block * CASES) / BLOCKS, ((block + 1) * CASES) / BLOCKS);
      probes.push(await run.emptied());
    }
    expect(run.failures).toEqual([]);
    const counts = [...run.counts].map(([kind, count]) => `${count} ${kind}`).sort();
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
    recordFigure(`Fuzzer, seed ${SEED}: cases`, `${CASES} in ${seconds} s (${counts.join(", ")})`, "no crash");
  });

  test("every accepted connection has its one disconnect", () => {
    const { acceptedCount, owed, duplicates } = run.ledger;
    expect([owed, duplicates]).toEqual([0, 0]);
    expect(acceptedCount).toBeGreaterThan(CASES / 5);
    recordFigure("Fuzzer: disconnects missing", `${owed} of ${acceptedCount} accepted connections`, "0");
  });

  test("no connection and no index entry is left, and no fault was logged", () => {
    const [empty] = probes;
    for (const probe of probes) {
      expect([probe.connections, probe.indexEntries]).toEqual([0, 0]);
      expect(probe.faults).toEqual([]);
      expect(probe.sets).toBeLessThan((empty?.sets ?? 0) + MAX_SPARE_OBJECTS);
      expect(probe.maps).toBeLessThan((empty?.maps ?? 0) + MAX_SPARE_OBJECTS);
      expect(probe.descriptors).toBeLessThan((empty?.descriptors ?? 0) + MAX_SPARE_DESCRIPTORS);
    }
    recordFigure("Fuzzer: connections and index entries left", "0", "0");
  });

  test("the gateway serves a normal cycle, and stops in good order", async () => {
    await run.cycle();
    expect(await run.gateway.stop()).toEqual([]);
  });

  // The short form is over before the process is warm: its memory says nothing.
  if (!IS_LONG) return;
  test("memory is flat from the warm process on", () => {
    const warmBytes = probes[WARM_BLOCKS]?.rssBytes ?? 0;
    const rest = probes.slice(WARM_BLOCKS + 1).map(({ rssBytes }) => rssBytes);
    const growthBytes = (rest.at(-1) ?? Number.POSITIVE_INFINITY) - warmBytes;
    recordFigure(
      "Fuzzer: RSS when warm, at the end, highest",
      [warmBytes, rest.at(-1) ?? 0, Math.max(...rest)].map(formatMegabytes).join(", "),
      `grows less than ${formatMegabytes(MAX_GROWTH_BYTES)}`,
    );
    expect(growthBytes).toBeLessThan(MAX_GROWTH_BYTES);
  });
});
