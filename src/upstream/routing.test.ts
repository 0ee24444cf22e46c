import { describe, expect, test } from "bun:test";
import { EVENT_NAMES } from "../protocol/events.ts";
import { type EventPatterns, matchesEvent, normalisePatterns } from "./routing.ts";

function patterns(over: Partial<EventPatterns>): EventPatterns {
  return normalisePatterns({ hubPattern: "*", categoryPattern: "*", eventPattern: "*", ...over }, new Set(EVENT_NAMES));
}

describe("matchesEvent", () => {
  test("takes everything where all patterns are *", () => {
    expect(matchesEvent(patterns({}), { hub: "chat" }, "message")).toBe(true);
  });

  test("compares hubs without case, on both sides", () => {
    expect(matchesEvent(patterns({ hubPattern: ["Chat", "x"] }), { hub: "cHAT" }, "connect")).toBe(true);
    expect(matchesEvent(patterns({ hubPattern: ["Chat"] }), { hub: "chats" }, "connect")).toBe(false);
  });

  test("takes only an event of a listed category", () => {
    expect(matchesEvent(patterns({ categoryPattern: ["messages"] }), { hub: "chat" }, "message")).toBe(true);
    expect(matchesEvent(patterns({ categoryPattern: ["messages"] }), { hub: "chat" }, "disconnect")).toBe(false);
  });

  test("takes only a listed event", () => {
    const listed = patterns({ eventPattern: ["connect", "disconnect"] });
    expect(matchesEvent(listed, { hub: "chat" }, "connect")).toBe(true);
    expect(matchesEvent(listed, { hub: "chat" }, "message")).toBe(false);
  });

  test("takes nothing that one of three patterns does not match", () => {
    const listed = patterns({ hubPattern: ["chat"], categoryPattern: ["connections"], eventPattern: ["connect"] });
    expect(matchesEvent(listed, { hub: "chat" }, "connect")).toBe(true);
    expect(matchesEvent(listed, { hub: "news" }, "connect")).toBe(false);
    expect(matchesEvent(listed, { hub: "chat" }, "disconnect")).toBe(false);
  });
});
