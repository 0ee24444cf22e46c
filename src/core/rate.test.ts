import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { AddressRates, RateAllowance } from "./rate.ts";

describe("RateAllowance", () => {
  test("lets one second's worth pass at once, and not one more", () => {
    const allowance = new RateAllowance(3, 1000);
    expect([1, 2, 3, 4].map(() => allowance.take(1, 1000))).toEqual([true, true, true, false]);
  });

  test("fills up with time, and no further than one second's worth", () => {
    const allowance = new RateAllowance(4, 0);
    expect(allowance.take(4, 0)).toBe(true);
    expect(allowance.take(1, 249)).toBe(false);
    expect(allowance.take(1, 250)).toBe(true);
    expect(allowance.take(5, 60_000)).toBe(false);
    expect(allowance.take(4, 60_000)).toBe(true);
  });

  test("takes nothing where it refuses", () => {
    const allowance = new RateAllowance(10, 0);
    expect(allowance.take(11, 0)).toBe(false);
    expect(allowance.take(10, 0)).toBe(true);
  });

  test("is full again once what was taken has come back", () => {
    const allowance = new RateAllowance(10, 0);
    expect(allowance.isFull(0)).toBe(true);
    allowance.take(5, 0);
    expect(allowance.isFull(499)).toBe(false);
    expect(allowance.isFull(500)).toBe(true);
  });

  test("never lets more pass than one second's worth and what time brings", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 1, max: 12 }))), (steps) => {
        const allowance = new RateAllowance(10, 0);
        let now = 0;
        let passed = 0;
        for (const [pauseMs, amount] of steps) {
          now += pauseMs;
          if (allowance.take(amount, now)) passed += amount;
          expect(passed).toBeLessThanOrEqual(10 + now / 100 + 1e-6);
        }
      }),
    );
  });
});

describe("AddressRates", () => {
  test("counts each address separately", () => {
    const rates = new AddressRates(1);
    expect(rates.take("a", 0)).toBe(true);
    expect(rates.take("a", 0)).toBe(false);
    expect(rates.take("b", 0)).toBe(true);
  });

  test("0 lets everything pass and remembers nobody", () => {
    const rates = new AddressRates(0);
    for (let i = 0; i < 100; i++) expect(rates.take(`a${i}`, 0)).toBe(true);
    expect(rates.size).toBe(0);
  });

  test("forgets an address once its allowance is full, and not before", () => {
    const rates = new AddressRates(2);
    rates.take("a", 0);
    rates.take("b", 0);
    rates.take("b", 0);
    rates.sweep(499);
    expect(rates.size).toBe(2);
    rates.sweep(500);
    expect(rates.size).toBe(1);
    expect(rates.take("b", 500)).toBe(true);
    expect(rates.take("b", 500)).toBe(false);
    rates.sweep(2000);
    expect(rates.size).toBe(0);
  });
});
