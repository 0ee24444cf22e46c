import { expect, test } from "bun:test";
import { didYouMean, suggestName } from "./suggest.ts";

const KEYS = ["listen.host", "listen.port", "listen.reusePort", "anonymous", "timeoutMs", "maxWaitMs"];

for (const [written, meant] of [
  ["timeoutMS", "timeoutMs"],
  ["timeout_ms", "timeoutMs"],
  ["timeoutMsec", "timeoutMs"],
  ["itmeoutMs", "timeoutMs"],
  ["anonymus", "anonymous"],
  ["port", "listen.port"],
  ["listen.prot", "listen.port"],
] as const) {
  test(`takes ${written} for ${meant}`, () => expect(suggestName(written, KEYS, ".")).toBe(meant));
}

for (const written of ["colour", "x", "", "a".repeat(100_000)]) {
  test(`suggests nothing for a name of ${written.length} characters that is far from all`, () => {
    expect(suggestName(written, KEYS, ".")).toBeNull();
  });
}

test("gives the nearest of several near names", () => {
  expect(suggestName("maxWaitMz", ["maxWaitMx1", "maxWaitMs"], ".")).toBe("maxWaitMs");
});

test("formats a suggestion as the end of a sentence", () => {
  expect(didYouMean("port")).toBe("; did you mean `port`?");
  expect(didYouMean(null)).toBe("");
});
