import { expect, test } from "bun:test";
import { someFacts } from "../../test/support/core-stage.ts";
import { until } from "../../test/support/deadline.ts";
import { DIALECT } from "../../test/support/upstream/fixture.ts";
import { type MessageEvent, messageEventId } from "../protocol/events.ts";
import type { PayloadType } from "../protocol/payload.ts";
import { MessageStarts } from "./message-starts.ts";
import { formatOpening } from "./request-bytes.ts";
import { parseUrlTemplate } from "./url-template.ts";

const KEYS = { primary: "first", secondary: null };
const NONE = [] as const;
const DATE = "Fri, 10 Jan 2020 01:02:03 GMT";

function message(connectionId: string, payloadType: PayloadType = "text"): MessageEvent {
  const facts = someFacts({ connectionId, hub: "chat é", userId: "ann" });
  const eventId = messageEventId(connectionId, 1);
  return { name: "message", number: 1, eventId, facts, payload: new Uint8Array(), payloadType };
}

function starts(spellHub = (hub: string) => hub): MessageStarts {
  const opening = formatOpening("host", "hubwire/1");
  const template = parseUrlTemplate("http://host/{hub}/{event}");
  return new MessageStarts({ template, opening, dialect: DIALECT, spellHub });
}

test("the start of a connection's requests is formed once, while keys and authorization are the same objects", () => {
  const made = starts();
  const event = message("c1");
  const first = made.startOf(event, KEYS, NONE, DATE);
  expect(Buffer.from(first).toString()).toStartWith("POST /chat%20%C3%A9/message HTTP/1.1\r\nHost: host\r\n");
  expect(made.startOf({ ...event, number: 2, eventId: "c1.2" }, KEYS, NONE, DATE)).toBe(first);
  const rotated = made.startOf(event, { primary: "second", secondary: "first" }, NONE, DATE);
  expect(Buffer.from(rotated).toString()).toMatch(/X-ASRS-Signature: sha256=[0-9a-f]{64},sha256=[0-9a-f]{64}\r\n/);
  const authorized = made.startOf(event, KEYS, [["Authorization", "Bearer x"]], DATE);
  expect(Buffer.from(authorized).toString()).toContain("\r\nAuthorization: Bearer x\r\n");
});

test("the start ends at the place of the message's number, and has the date of now", () => {
  const made = starts();
  const [text, binary] = [message("c1"), message("c1", "binary")];
  const same = { ...binary, facts: text.facts };
  const endOf = (event: MessageEvent, date: string) => {
    const lines = Buffer.from(made.startOf(event, KEYS, NONE, date))
      .toString()
      .split("\r\n");
    return lines.slice(-3);
  };
  expect(endOf(text, DATE)).toEqual([`Date: ${DATE}`, "Content-Type: text/plain", "X-Hubwire-Event-Id: c1."]);
  const later = "Sat, 11 Jan 2020 11:12:13 GMT";
  for (const date of [later, DATE, later]) {
    expect(endOf(same, date)).toEqual([
      `Date: ${date}`,
      "Content-Type: application/octet-stream",
      "X-Hubwire-Event-Id: c1.",
    ]);
    expect(endOf(text, date)).toEqual([`Date: ${date}`, "Content-Type: text/plain", "X-Hubwire-Event-Id: c1."]);
  }
});

test("connections have their own; who goes on talking keeps its, and who has not talked for long is forgotten", () => {
  const made = starts();
  const [talking, silent] = [message("talking"), message("silent")];
  const kept = made.startOf(talking, KEYS, NONE, DATE);
  const forgotten = made.startOf(silent, KEYS, NONE, DATE);
  const others = Array.from({ length: 40_000 }, (_empty, index) => message(`c${index}`));
  for (const [index, other] of others.entries()) {
    const start = Buffer.from(made.startOf(other, KEYS, NONE, DATE)).toString();
    if (index % 1000 === 0) expect(start).toContain(`X-ASRS-Connection-Id: ${other.facts.connectionId}\r\n`);
    if (index % 4000 === 0) expect(made.startOf(talking, KEYS, NONE, DATE)).toBe(kept);
  }
  expect(made.startOf(silent, KEYS, NONE, DATE)).not.toBe(forgotten);
  expect(made.startOf(silent, KEYS, NONE, DATE)).toEqual(forgotten);
});

test("a connection that has ended is not kept alive", async () => {
  const made = starts();
  let isGone = false;
  const registry = new FinalizationRegistry(() => {
    isGone = true;
  });
  (() => {
    for (let index = 0; index < 100; index++) {
      const event = message(`c${index}`);
      registry.register(event.facts, null);
      made.startOf(event, KEYS, NONE, DATE);
    }
  })();
  const isCollected = () => {
    Bun.gc(true);
    return isGone;
  };
  await until(isCollected, "one of them to be collected");
});

test("the hub is written as it is spelled, and in the new way once all is forgotten", () => {
  let spelling = "CHAT";
  const made = starts(() => spelling);
  const hubOf = (bytes: Uint8Array) =>
    /^POST \/(\w+)\/[\s\S]*\r\nX-ASRS-Hub: (\w+)\r\n/.exec(Buffer.from(bytes).toString());
  const event = message("c1");
  expect(hubOf(made.startOf(event, KEYS, NONE, DATE))?.slice(1)).toEqual(["CHAT", "CHAT"]);
  spelling = "chat";
  made.forget();
  expect(hubOf(made.startOf(event, KEYS, NONE, DATE))?.slice(1)).toEqual(["chat", "chat"]);
});

test("a fact that would end its line is a bug that throws", () => {
  const event = message("c1");
  const broken = { ...event, facts: { ...event.facts, userId: "a\r\nX: y" } };
  expect(() => starts().startOf(broken, KEYS, NONE, DATE)).toThrow("X-ASRS-User-Id");
});
