import { describe, expect, test } from "bun:test";
import type { Dialect } from "../protocol/dialect.ts";
import { type EventPatterns, matchesEvent, normalisePatterns } from "./routing.ts";

const ALL_EVENTS: Dialect["events"] = { connect: true, message: true, disconnect: true };

function patterns(over: Partial<EventPatterns>, events = ALL_EVENTS): EventPatterns {
  return normalisePatterns({ hubPattern: "*", categoryPattern: "*", eventPattern: "*", ...over }, events);
}

describe("matchesEvent", () => {
  test("takes everything where all patterns are *", () => {
    expect(matchesEvent(patterns({}), "chat", "message")).toBe(true);
  });

  test("takes no event that its dialect does not have, with any pattern", () => {
    const events = { ...ALL_EVENTS, message: false };
    for (const eventPattern of ["*", ["message", "disconnect"]] as const) {
      expect(matchesEvent(patterns({ eventPattern }, events), "chat", "message")).toBe(false);
      expect(matchesEvent(patterns({ eventPattern }, events), "chat", "disconnect")).toBe(true);
    }
  });

  test("compares hubs without case, on both sides", () => {
    expect(matchesEvent(patterns({ hubPattern: ["Chat", "x"] }), "cHAT", "connect")).toBe(true);
    expect(matchesEvent(patterns({ hubPattern: ["Chat"] }), "chats", "connect")).toBe(false);
  });

  test("takes only an event of a listed category", () => {
    expect(matchesEvent(patterns({ categoryPattern: ["messages"] }), "chat", "message")).toBe(true);
    expect(matchesEvent(patterns({ categoryPattern: ["messages"] }), "chat", "disconnect")).toBe(false);
  });

  test("takes only a listed event", () => {
    const listed = patterns({ eventPattern: ["connect", "disconnect"] });
    expect(matchesEvent(listed, "chat", "connect")).toBe(true);
    expect(matchesEvent(listed, "chat", "message")).toBe(false);
  });

  test("takes nothing that one of three patterns does not match", () => {
    const listed = patterns({ hubPattern: ["chat"], categoryPattern: ["connections"], eventPattern: ["connect"] });
    expect(matchesEvent(listed, "chat", "connect")).toBe(true);
    expect(matchesEvent(listed, "news", "connect")).toBe(false);
    expect(matchesEvent(listed, "chat", "disconnect")).toBe(false);
  });
});
