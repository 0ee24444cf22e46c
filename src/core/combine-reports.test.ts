import { expect, test } from "bun:test";
import type { Notice, Report } from "../protocol/notices.ts";
import { combineReports } from "./combine-reports.ts";

const OPENED: Notice = { kind: "breaker-opened", entry: "upstreams[0]" };

/** A listener that keeps what it hears. */
function listening(): { heard: Notice[]; listen: Report } {
  const heard: Notice[] = [];
  return { heard, listen: (notice) => void heard.push(notice) };
}

test("every listener hears every notice, the same value, in the order of the listeners", () => {
  const order: string[] = [];
  const report = combineReports(
    ({ kind }) => void order.push(`first ${kind}`),
    ({ kind }) => void order.push(`second ${kind}`),
  );
  report(OPENED);
  report({ kind: "journal-writable" });
  expect(order).toEqual([
    "first breaker-opened",
    "second breaker-opened",
    "first journal-writable",
    "second journal-writable",
  ]);
});

test("a listener that throws harms neither the teller nor the others, which hear of its fault", () => {
  const error = new Error("a bug in a listener");
  const [before, after] = [listening(), listening()];
  const broken = () => {
    throw error;
  };
  const report = combineReports(before.listen, broken, after.listen);
  expect(() => report(OPENED)).not.toThrow();
  const fault: Notice = { kind: "fault", where: "a listener of notices", error };
  expect(before.heard).toEqual([OPENED, fault]);
  expect(after.heard).toEqual([fault, OPENED]);
});

test("where all listeners throw, the teller goes on", () => {
  const broken = () => {
    throw new Error("a bug in a listener");
  };
  const other = () => {
    throw new Error("another bug");
  };
  expect(() => combineReports(broken, other)(OPENED)).not.toThrow();
});
