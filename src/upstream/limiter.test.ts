import { expect, test } from "bun:test";
import fc from "fast-check";
import { Limiter } from "./limiter.ts";

function seeker(name: string, placed: string[], onPlace = () => {}) {
  return {
    onPlace() {
      placed.push(name);
      onPlace();
    },
  };
}

test("gives so many places and no more", () => {
  const limiter = new Limiter(2);
  expect([limiter.tryEnter(), limiter.tryEnter(), limiter.tryEnter()]).toEqual([true, true, false]);
  limiter.release();
  expect(limiter.tryEnter()).toBe(true);
});

test("hands a place to whoever has waited longest, before anybody who comes", () => {
  const limiter = new Limiter(1);
  const placed: string[] = [];
  limiter.tryEnter();
  limiter.queue(seeker("first", placed));
  limiter.queue(seeker("second", placed));
  limiter.release();
  expect(placed).toEqual(["first"]);
  expect(limiter.tryEnter()).toBe(false);
  limiter.release();
  expect(placed).toEqual(["first", "second"]);
});

test("passes over one that gave up waiting", () => {
  const limiter = new Limiter(1);
  const placed: string[] = [];
  limiter.tryEnter();
  const first = seeker("first", placed);
  limiter.queue(first);
  limiter.queue(seeker("second", placed));
  limiter.leave(first);
  limiter.release();
  expect(placed).toEqual(["second"]);
});

test("lets a hundred thousand give their place back at once, without growing the stack", () => {
  const limiter = new Limiter(1);
  const placed: string[] = [];
  limiter.tryEnter();
  for (let i = 0; i < 100_000; i++) limiter.queue(seeker("one", placed, () => limiter.release()));
  limiter.release();
  expect(placed).toHaveLength(100_000);
  expect(limiter.tryEnter()).toBe(true);
  expect(limiter.tryEnter()).toBe(false);
});

test("lets nobody overtake the queue while places are handed out", () => {
  const limiter = new Limiter(1);
  const placed: string[] = [];
  let overtook = false;
  limiter.tryEnter();
  const first = seeker("first", placed, () => {
    limiter.release();
    overtook = limiter.tryEnter();
  });
  limiter.queue(first);
  limiter.queue(seeker("second", placed));
  limiter.release();
  expect(overtook).toBe(false);
  expect(placed).toEqual(["first", "second"]);
});

test("keeps the order of those that wait, whoever gives up in between", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constant("queue" as const), fc.constant("release" as const), fc.nat(9))),
      (steps) => {
        const limiter = new Limiter(1);
        limiter.tryEnter();
        const placed: string[] = [];
        const waiting: { name: string; onPlace(): void }[] = [];
        const expected: string[] = [];
        let isFree = false;
        for (const [index, step] of steps.entries()) {
          if (step === "queue" && !isFree) {
            const one = { name: `c${index}`, ...seeker(`c${index}`, placed) };
            waiting.push(one);
            limiter.queue(one);
          } else if (step === "release" && !isFree) {
            const next = waiting.shift();
            if (next === undefined) isFree = true;
            else expected.push(next.name);
            limiter.release();
          } else if (typeof step === "number") {
            const [gone] = waiting.splice(step, 1);
            if (gone !== undefined) limiter.leave(gone);
          }
        }
        expect(placed).toEqual(expected);
        expect(limiter.tryEnter()).toBe(isFree);
      },
    ),
  );
});
