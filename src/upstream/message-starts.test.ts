import { expect, test } from "bun:test";
import { someFacts } from "../../test/support/core-stage.ts";
import type { UpstreamEvent } from "../protocol/events.ts";
import { MessageStarts } from "./message-starts.ts";
import { formatOpening } from "./request-bytes.ts";
import { parseUrlTemplate } from "./url-template.ts";

const KEYS = { primary: "first", secondary: null };
const NONE = [] as const;

function message(connectionId: string): Extract<UpstreamEvent, { name: "message" }> {
  const facts = someFacts({ connectionId, hub: "Chat é", userId: "ann" });
  return { name: "message", eventId: `${connectionId}.1`, facts, payload: new Uint8Array(), binary: false };
}

function starts(): MessageStarts {
  return new MessageStarts(parseUrlTemplate("http://host/{hub}/{event}"), formatOpening("host", "hubwire/1"));
}

test("the start of a connection's requests is formed once, while keys and authorization are the same objects", () => {
  const made = starts();
  const event = message("c1");
  const first = made.startOf(event, KEYS, NONE);
  expect(Buffer.from(first).toString()).toStartWith("POST /Chat%20%C3%A9/message HTTP/1.1\r\nHost: host\r\n");
  expect(made.startOf({ ...event, eventId: "c1.2" }, KEYS, NONE)).toBe(first);
  const rotated = made.startOf(event, { primary: "second", secondary: "first" }, NONE);
  expect(Buffer.from(rotated).toString()).toMatch(/X-ASRS-Signature: sha256=[0-9a-f]{64},sha256=[0-9a-f]{64}\r\n/);
  const authorized = made.startOf(event, KEYS, [["Authorization", "Bearer x"]]);
  expect(Buffer.from(authorized).toString()).toContain("\r\nAuthorization: Bearer x\r\n");
  expect(made.size).toBe(1);
});

test("connections have their own, and no more than 16,384 are kept however many talk", () => {
  const made = starts();
  const kept = message("kept");
  const first = made.startOf(kept, KEYS, NONE);
  for (let index = 0; index < 40_000; index++) {
    const { connectionId } = message(`c${index}`).facts;
    const start = Buffer.from(made.startOf(message(connectionId), KEYS, NONE)).toString();
    if (index % 1000 === 0) expect(start).toContain(`X-ASRS-Connection-Id: ${connectionId}\r\n`);
    if (index % 4000 === 0) expect(made.startOf(kept, KEYS, NONE)).toBe(first);
  }
  expect(made.size).toBeLessThanOrEqual(16_384);
});

test("a fact that would end its line is a bug that throws", () => {
  const event = message("c1");
  const broken = { ...event, facts: { ...event.facts, userId: "a\r\nX: y" } };
  expect(() => starts().startOf(broken, KEYS, NONE)).toThrow("X-ASRS-User-Id");
});
