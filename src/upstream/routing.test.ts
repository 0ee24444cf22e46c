import { describe, expect, test } from "bun:test";
import { EVENT_NAMES } from "../protocol/events.ts";
import { type EventPatterns, matchesEvent, normalisePatterns } from "./routing.ts";

function patterns(over: Partial<EventPatterns>): EventPatterns {
  return normalisePatterns({ hubPattern: "*", categoryPattern: "*", eventPattern: "*", ...over }, new Set(EVENT_NAMES));
}

describe("matchesEvent", () => {
  test("takes everything where all patterns are *", () => {
    expect(matchesEvent(patterns({}), "chat", "message")).toBe(true);
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
