import { expect, test } from "bun:test";
import { MAX_RUN, RequestRuns } from "./request-runs.ts";

const ONE = { address: "127.0.0.1", port: 1 };
const OTHER = { address: "127.0.0.1", port: 2 };

/** How many requests pass before one is to be the last of its connection; `count` where all do. */
function passed(runs: RequestRuns, count: number, endOf: (index: number) => typeof ONE): number {
  for (let index = 0; index < count; index++) if (runs.isPastEnd(() => endOf(index))) return index;
  return count;
}

test("the last request of a run ends its connection, and none before it", () => {
  expect(passed(new RequestRuns(), 10 * MAX_RUN, () => ONE)).toBe(MAX_RUN - 1);
});

test("a run begins anew with each turn of the event loop", async () => {
  const runs = new RequestRuns();
  for (let turn = 0; turn < 3; turn++) {
    expect(passed(runs, MAX_RUN - 1, () => ONE)).toBe(MAX_RUN - 1);
    await new Promise((resolve) => setImmediate(resolve));
  }
});

test("requests of several connections, as many as come, end none of them", () => {
  const ends = [ONE, OTHER, { address: "127.0.0.2", port: 2 }];
  expect(passed(new RequestRuns(), 10 * MAX_RUN, (index) => ends[index % ends.length] ?? ONE)).toBe(10 * MAX_RUN);
});

test("nobody asks whose requests they are while they are few", () => {
  const runs = new RequestRuns();
  for (let count = 0; count < MAX_RUN / 2; count++) {
    runs.isPastEnd(() => {
      throw new Error("asked");
    });
  }
  expect(() => runs.isPastEnd(() => ONE)).not.toThrow();
});
