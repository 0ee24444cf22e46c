import { beforeEach, describe, expect, test } from "bun:test";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { Dialer, NEXT_ADDRESS_AFTER_MS } from "./dialer.ts";

let clock: FakeClock;
let tries: { readonly address: string; readonly refuse: (code: string) => Promise<void> }[];
let passedOver: string[];
let failures: unknown[];

beforeEach(() => {
  clock = new FakeClock();
  tries = [];
  passedOver = [];
  failures = [];
});

function start(...addresses: string[]): Dialer {
  const dialer = new Dialer({
    addresses,
    clock,
    connect: (address) => {
      const { promise, reject } = Promise.withResolvers<void>();
      tries.push({
        address,
        async refuse(code) {
          reject(code);
          await promise.catch(() => {});
          await Promise.resolve();
        },
      });
      return promise;
    },
    onPassedOver: (address) => passedOver.push(address),
    onFailed: (error) => failures.push(error),
  });
  dialer.start();
  return dialer;
}

const tried = () => tries.map(({ address }) => address);

describe("a dialer", () => {
  test("tries the next address as soon as one refuses, and fails with the last one's error", async () => {
    start("a", "b");
    expect(tried()).toEqual(["a"]);
    await tries[0]?.refuse("E1");
    expect(tried()).toEqual(["a", "b"]);
    expect([passedOver, failures]).toEqual([["a"], []]);
    await tries[1]?.refuse("E2");
    expect([passedOver, failures]).toEqual([["a"], ["E2"]]);
    expect(clock.timerCount).toBe(0);
  });

  test("tries the next address while one does not answer, each after its time", async () => {
    start("a", "b", "c");
    clock.advanceSync(NEXT_ADDRESS_AFTER_MS - 1);
    expect(tried()).toEqual(["a"]);
    clock.advanceSync(1);
    expect(tried()).toEqual(["a", "b"]);
    clock.advanceSync(NEXT_ADDRESS_AFTER_MS);
    expect(tried()).toEqual(["a", "b", "c"]);
    expect(passedOver).toEqual(["a", "b"]);
    expect(clock.timerCount).toBe(0);
  });

  test("gives the next address its full time after a refusal", async () => {
    start("a", "b", "c");
    clock.advanceSync(NEXT_ADDRESS_AFTER_MS - 1);
    await tries[0]?.refuse("E1");
    expect(tried()).toEqual(["a", "b"]);
    clock.advanceSync(NEXT_ADDRESS_AFTER_MS - 1);
    expect(tried()).toEqual(["a", "b"]);
    clock.advanceSync(1);
    expect(tried()).toEqual(["a", "b", "c"]);
  });

  test("fails only when the slow ones have refused too", async () => {
    start("a", "b");
    clock.advanceSync(NEXT_ADDRESS_AFTER_MS);
    await tries[1]?.refuse("E2");
    expect(failures).toEqual([]);
    await tries[0]?.refuse("E1");
    expect(failures).toEqual(["E1"]);
  });

  test("needs no timer for a lone address", () => {
    start("a");
    expect(clock.timerCount).toBe(0);
  });

  test("tries and tells nothing once it is stopped", async () => {
    const dialer = start("a", "b");
    dialer.stop();
    dialer.stop();
    await tries[0]?.refuse("E1");
    clock.advanceSync(NEXT_ADDRESS_AFTER_MS);
    expect([tried(), passedOver, failures, clock.timerCount]).toEqual([["a"], [], [], 0]);
  });
});
