import { expect, test } from "bun:test";
import { Connection } from "./connection.ts";
import { TimingWheel } from "./timing-wheel.ts";

function connection(connectionId: string): Connection {
  return new Connection({ connectionId, hub: "chat", userId: null, claims: "", clientQuery: "", forwardedFor: "" });
}

function takeIds(wheel: TimingWheel, tick: number): string[] {
  const ids: string[] = [];
  for (let due = wheel.takeDue(tick); due !== null; due = wheel.takeDue(tick)) ids.push(due.connectionId);
  return ids;
}

test("connections are taken at the tick at which they are due, in the order in which they were placed", () => {
  const wheel = new TimingWheel(3);
  const [a, b, c] = [connection("a"), connection("b"), connection("c")];
  wheel.place(a, 11);
  wheel.place(b, 12);
  wheel.place(c, 11);
  expect([wheel.size, wheel.sizeAt(11), wheel.sizeAt(12), wheel.sizeAt(13)]).toEqual([3, 2, 1, 0]);
  expect(takeIds(wheel, 10)).toEqual([]);
  expect(takeIds(wheel, 11)).toEqual(["a", "c"]);
  expect(takeIds(wheel, 12)).toEqual(["b"]);
  expect(wheel.size).toBe(0);
});

test("one that is removed is not taken, from any place in its list, and can be placed again", () => {
  for (const removed of ["a", "b", "c"]) {
    const wheel = new TimingWheel(3);
    const all = ["a", "b", "c"].map(connection);
    for (const one of all) wheel.place(one, 2);
    const gone = all.find(({ connectionId }) => connectionId === removed) as Connection;
    wheel.remove(gone);
    wheel.remove(gone);
    expect(wheel.size).toBe(2);
    wheel.place(gone, 2);
    expect(takeIds(wheel, 2)).toEqual([...["a", "b", "c"].filter((id) => id !== removed), removed]);
  }
});

test("what is not on the wheel refers to nobody", () => {
  const wheel = new TimingWheel(3);
  const [a, b] = [connection("a"), connection("b")];
  wheel.place(a, 1);
  wheel.place(b, 1);
  wheel.remove(a);
  expect([a.wheelBefore, a.wheelBehind, b.wheelBefore, b.wheelBehind]).toEqual([null, null, null, null]);
  expect(wheel.takeAll()).toEqual([b]);
  expect(wheel.size).toBe(0);
});
