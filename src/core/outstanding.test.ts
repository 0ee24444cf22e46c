import { expect, test } from "bun:test";
import { settled } from "../../test/support/fake-clock.ts";
import { Outstanding } from "./outstanding.ts";

test("resolves at once where nothing is outstanding", async () => {
  await new Outstanding().whenNone();
});

test("resolves for everybody who waits when the last has ended, and not before", async () => {
  const outstanding = new Outstanding();
  outstanding.begin();
  outstanding.begin();
  const woken: string[] = [];
  void outstanding.whenNone().then(() => woken.push("first"));
  void outstanding.whenNone().then(() => woken.push("second"));
  outstanding.end();
  await settled();
  expect(woken).toEqual([]);
  expect(outstanding.count).toBe(1);
  outstanding.end();
  await settled();
  expect(woken).toEqual(["first", "second"]);
});

test("waits again for what begins later", async () => {
  const outstanding = new Outstanding();
  outstanding.begin();
  outstanding.end();
  outstanding.begin();
  let woken = 0;
  void outstanding.whenNone().then(() => woken++);
  await settled();
  expect(woken).toBe(0);
  outstanding.end();
  await settled();
  expect(woken).toBe(1);
});
