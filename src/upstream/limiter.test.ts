import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Limiter, placesPerAddress } from "./limiter.ts";
import type { PlaceSeeker } from "./waiting-line.ts";

/** Calls of one limiter, by name, and the order in which those that waited had their places. */
class Stage {
  readonly limiter: Limiter;
  readonly placed: string[] = [];
  readonly #calls = new Map<string, PlaceSeeker>();
  /** How often an address was asked for. */
  lookCount = 0;

  constructor(places: number, placesPerAddress = places) {
    this.limiter = new Limiter({ places, placesPerAddress });
  }

  /** Whether the call had a place at once; otherwise it waits. Its name begins with its address. */
  come(name: string, onPlace = () => {}): boolean {
    const stage = this;
    const call: PlaceSeeker = {
      get clientBlock() {
        stage.lookCount++;
        return name.charAt(0);
      },
      placeIndex: -1,
      share: null,
      onPlace: () => {
        this.placed.push(name);
        onPlace();
      },
    };
    this.#calls.set(name, call);
    if (this.limiter.tryEnter(call)) return true;
    this.limiter.queue(call);
    return false;
  }

  /** Those that wait after all have come. */
  comeAll(...names: string[]): string[] {
    return names.filter((name) => !this.come(name));
  }

  release(name: string): void {
    this.limiter.release(this.#call(name));
  }

  leave(name: string): void {
    this.limiter.leave(this.#call(name));
  }

  isAtShare(name: string): boolean {
    return this.limiter.isAtShare(this.#call(name));
  }

  #call(name: string): PlaceSeeker {
    const call = this.#calls.get(name);
    if (call === undefined) throw new Error(`no call ${name}`);
    return call;
  }
}

test("gives so many places and no more", () => {
  expect(new Stage(2).comeAll("a1", "a2", "a3")).toEqual(["a3"]);
});

test("hands a place to the call that has waited longest, before any that comes", () => {
  const stage = new Stage(1);
  stage.comeAll("a1", "a2", "a3");
  stage.release("a1");
  expect(stage.placed).toEqual(["a2"]);
  expect(stage.come("a4")).toBe(false);
  stage.release("a2");
  expect(stage.placed).toEqual(["a2", "a3"]);
});

test("passes over one that gave up waiting", () => {
  const stage = new Stage(1);
  stage.comeAll("a1", "a2", "a3");
  stage.leave("a2");
  stage.release("a1");
  expect(stage.placed).toEqual(["a3"]);
});

test("lets a hundred thousand give their place back at once, without growing the stack", () => {
  for (const share of [1, 2]) {
    const stage = new Stage(2, share);
    stage.comeAll("b1", "a1");
    for (let i = 2; i < 100_002; i++) stage.come(`a${i}`, () => stage.release(`a${i}`));
    stage.release("a1");
    expect(stage.placed).toHaveLength(100_000);
    expect([stage.come("a0"), stage.come("a00")]).toEqual([true, false]);
  }
});

test("lets nobody overtake the line while places are handed out", () => {
  const stage = new Stage(1);
  let overtook = false;
  stage.come("a1");
  stage.come("a2", () => {
    stage.release("a2");
    overtook = stage.come("a4");
  });
  stage.come("a3");
  stage.release("a1");
  expect(overtook).toBe(false);
  expect(stage.placed).toEqual(["a2", "a3"]);
});

describe("one address", () => {
  test("has its share of the places at most, and the rest is free for others", () => {
    const stage = new Stage(4, 3);
    expect(stage.comeAll("a1", "a2", "a3", "a4", "b1", "b2")).toEqual(["a4", "b2"]);
    expect(stage.isAtShare("a4")).toBe(true);
    expect(stage.isAtShare("b2")).toBe(false);
  });

  test("has the next of its calls in the place of one that ends, in order", () => {
    const stage = new Stage(4, 2);
    stage.comeAll("a1", "a2", "a3", "a4", "a5");
    stage.release("a2");
    stage.release("a1");
    expect(stage.placed).toEqual(["a3", "a4"]);
    stage.leave("a5");
    stage.release("a3");
    stage.release("a4");
    expect(stage.placed).toEqual(["a3", "a4"]);
  });

  test("does not fill the common line either: it waits there for its share less what it has", () => {
    const stage = new Stage(4, 3);
    stage.comeAll("b1", "b2", "a1", "a2");
    expect(stage.comeAll("a3", "a4", "a5", "b3")).toEqual(["a3", "a4", "a5", "b3"]);
    expect([stage.isAtShare("a3"), stage.isAtShare("a4")]).toEqual([false, true]);
    stage.release("b1");
    stage.release("b2");
    expect(stage.placed).toEqual(["a3", "b3"]);
  });

  test("waits in the common line again after a call of it gave up there", () => {
    const stage = new Stage(4, 3);
    stage.comeAll("b1", "b2", "a1", "a2", "a3", "a4");
    stage.leave("a3");
    expect(stage.isAtShare("a4")).toBe(false);
    stage.release("b1");
    expect(stage.placed).toEqual(["a4"]);
  });

  test("is not looked at while so few calls are under way that none can have its share", () => {
    const stage = new Stage(8, 6);
    for (let round = 0; round < 100; round++) {
      stage.comeAll("a1", "a2", "a3", "a4", "a5", "a6");
      for (let i = 1; i <= 6; i++) stage.release(`a${i}`);
    }
    expect(stage.lookCount).toBe(0);
    stage.comeAll("a1", "a2", "a3", "a4", "a5", "a6", "a7");
    expect(stage.lookCount).toBeGreaterThan(0);
  });

  test("is not looked at again once its calls have ended, however many addresses there were", () => {
    const stage = new Stage(4, 2);
    stage.comeAll("a1", "a2", "b1", "a3", "c1");
    for (const name of ["a1", "a2", "a3", "b1"]) stage.release(name);
    const before = stage.lookCount;
    stage.comeAll("a4");
    expect(stage.lookCount).toBe(before);
  });

  test("costs a bounded number of looks, however often the number under way passes its share", () => {
    const stage = new Stage(100, 50);
    for (let i = 0; i < 50; i++) stage.come(`a${i}`);
    for (let i = 50; i < 10_050; i++) {
      stage.come(`b${i}`);
      stage.release(`b${i}`);
    }
    expect(stage.lookCount).toBeLessThan(10_200);
  });
});

test("three quarters of the places are an address's share, rounded up, unless it is given", () => {
  const shareOf = (maxConcurrency: number, maxConcurrencyPerAddress: number | null = null) =>
    placesPerAddress({ maxConcurrency, maxConcurrencyPerAddress });
  expect([1, 2, 3, 4, 5, 16, 1024].map((places) => shareOf(places))).toEqual([1, 2, 3, 3, 4, 12, 768]);
  expect(shareOf(1024, 7)).toBe(7);
});

/** The same by searching lists: what the limiter must do, without its counting. */
class Model {
  readonly placed: string[] = [];
  readonly #places: number;
  readonly #share: number;
  #under: string[] = [];
  #line: string[] = [];
  #waiting: string[] = [];

  constructor(places: number, share: number) {
    this.#places = places;
    this.#share = share >= places ? Number.POSITIVE_INFINITY : share;
  }

  get under(): readonly string[] {
    return this.#under;
  }

  get waiting(): readonly string[] {
    return [...this.#line, ...this.#waiting];
  }

  isAtShare(name: string): boolean {
    return this.#waiting.includes(name);
  }

  come(name: string): boolean {
    const mayStand = this.#claimsOf(name.charAt(0)) < this.#share;
    const isFree = mayStand && this.#line.length === 0 && this.#under.length < this.#places;
    (isFree ? this.#under : mayStand ? this.#line : this.#waiting).push(name);
    return isFree;
  }

  release(name: string): void {
    this.#under = this.#under.filter((one) => one !== name);
    this.#giveBack(name);
    while (this.#under.length < this.#places) {
      const next = this.#line.shift();
      if (next === undefined) return;
      this.#under.push(next);
      this.placed.push(next);
    }
  }

  leave(name: string): void {
    const wasInLine = this.#line.includes(name);
    this.#line = this.#line.filter((one) => one !== name);
    this.#waiting = this.#waiting.filter((one) => one !== name);
    if (wasInLine) this.#giveBack(name);
  }

  #giveBack(name: string): void {
    const next = this.#waiting.find((one) => one.charAt(0) === name.charAt(0));
    if (next === undefined) return;
    this.#waiting = this.#waiting.filter((one) => one !== next);
    this.#line.push(next);
  }

  #claimsOf(address: string): number {
    return [...this.#under, ...this.#line].filter((name) => name.charAt(0) === address).length;
  }
}

test("keeps order and shares while calls come, end and give up in any order", () => {
  const step = fc.record({ what: fc.constantFrom("come", "come", "release", "leave"), pick: fc.nat(200) });
  const bounds = fc.record({ places: fc.integer({ min: 1, max: 8 }), share: fc.integer({ min: 1, max: 9 }) });
  fc.assert(
    fc.property(bounds, fc.array(step, { minLength: 50, maxLength: 200 }), ({ places, share }, steps) => {
      const stage = new Stage(places, share);
      const model = new Model(places, share);
      for (const [index, { what, pick }] of steps.entries()) {
        const name = `${"abc".charAt(pick % 3)}${index}`;
        const from = what === "release" ? model.under : model.waiting;
        const one = from[pick % Math.max(1, from.length)];
        if (what === "come") {
          expect(stage.come(name)).toBe(model.come(name));
        } else if (one !== undefined && what === "release") {
          stage.release(one);
          model.release(one);
        } else if (one !== undefined) {
          stage.leave(one);
          model.leave(one);
        }
        expect(stage.placed).toEqual(model.placed);
        for (const waiting of model.waiting) expect(stage.isAtShare(waiting)).toBe(model.isAtShare(waiting));
      }
    }),
    { numRuns: 500 },
  );
});
