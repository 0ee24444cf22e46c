import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { dueOf, factsOf, statesOf } from "../../test/support/log-stage.ts";
import type { JournalEntry } from "../core/ports.ts";
import {
  formatEntry,
  formatMessage,
  formatNamed,
  formatSettled,
  type LogMessageHead,
  parseMessage,
} from "./log-message.ts";
import { LogReplay } from "./log-replay.ts";

const TEXT = fc.string({ unit: "binary" });
const FACTS = fc.record({
  connectionId: TEXT,
  hub: TEXT,
  userId: TEXT,
  claims: TEXT,
  clientQuery: TEXT,
  forwardedFor: TEXT,
});
const DUE = fc.record({
  facts: FACTS,
  end: fc.record({ code: fc.nat(), reason: TEXT }),
  connectOutcomeUnknown: fc.boolean(),
  dueSinceMs: fc.double({ noNaN: true, noDefaultInfinity: true }).filter((time) => !Object.is(time, -0)),
  triedForMs: fc.constant(0),
});
const ENTRY: fc.Arbitrary<JournalEntry> = fc.oneof(
  fc.record({ state: fc.constantFrom("connecting" as const, "connected" as const), facts: FACTS }),
  fc.record({ state: fc.constant("due" as const), due: DUE }),
  fc.record({
    state: fc.constant("dead" as const),
    letter: fc.tuple(DUE, fc.nat(), TEXT).map(([due, diedAtMs, cause]) => ({ ...due, diedAtMs, keptForMs: 0, cause })),
  }),
);

function head(changes: Partial<LogMessageHead> = {}): LogMessageHead {
  return { kind: "batch", author: "a", number: 1, part: 0, isLast: true, ...changes };
}
function bytesOf(changes: Partial<LogMessageHead>, ...records: string[]): Uint8Array {
  return Buffer.from(formatMessage(head(changes), records.join(",")));
}
function replay(...messages: Uint8Array[]): string[] {
  const log = new LogReplay();
  for (const bytes of messages) {
    const message = parseMessage(bytes);
    if (message !== null) log.read(message);
  }
  return statesOf(log.entries);
}
const connecting = (id: string) => formatEntry({ state: "connecting", facts: factsOf(id) });

describe("a message of a log", () => {
  test("brings every entry through as it was, whatever its strings hold", () => {
    fc.assert(
      fc.property(fc.array(ENTRY), (entries) => {
        const message = parseMessage(bytesOf({}, ...entries.map(formatEntry)));
        expect(message?.records.map(({ change }) => change)).toEqual(entries);
      }),
    );
  });

  test("is skipped where it is damaged, and never throws", () => {
    const whole = bytesOf({}, formatEntry({ state: "due", due: dueOf("c1") }), formatNamed("c2", "ann"));
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), (index, byte) => {
        const damaged = Uint8Array.from(whole);
        damaged[index] = byte;
        parseMessage(damaged);
        expect(parseMessage(whole.subarray(0, index))).toBeNull();
      }),
    );
    fc.assert(fc.property(fc.json(), (text) => expect(parseMessage(Buffer.from(text))).toBeNull()));
    fc.assert(
      fc.property(fc.array(fc.jsonValue(), { minLength: 1 }), (values) => {
        parseMessage(Buffer.from(JSON.stringify([1, "batch", "a", 1, 0, true, values])));
        parseMessage(Buffer.from(JSON.stringify([1, "batch", "a", 1, 0, true, [[2, ...values]]])));
      }),
    );
  });

  test("of a later version is skipped", () => {
    expect(parseMessage(Buffer.from(formatMessage(head(), "").replace("[1,", "[2,")))).toBeNull();
  });
});

describe("the replay of a log", () => {
  test("brings each connection into its last state, and forgets what was settled", () => {
    const due = formatEntry({ state: "due", due: dueOf("c1") });
    const messages = [bytesOf({}, connecting("c1"), connecting("c2"), connecting("c3"))];
    expect(replay(...messages)).toEqual(["c1 connecting", "c2 connecting", "c3 connecting"]);
    messages.push(bytesOf({}, formatNamed("c2", "bob"), due, formatSettled("c3")));
    expect(replay(...messages)).toEqual(["c2 connected", "c1 due"]);
  });

  test("names nobody of whom it has not heard, and nobody who is not connected any more", () => {
    const due = formatEntry({ state: "due", due: dueOf("c1") });
    expect(replay(bytesOf({}, due, formatNamed("c1", "bob"), formatNamed("c2", "bob")))).toEqual(["c1 due"]);
  });

  test("takes a whole snapshot in the place of all before, and what follows it", () => {
    const messages = [
      bytesOf({ number: 1 }, connecting("old")),
      bytesOf({ kind: "snapshot", number: 2, isLast: false }, connecting("c1")),
      bytesOf({ kind: "snapshot", number: 3, part: 1 }, connecting("c2")),
      bytesOf({ number: 4 }, connecting("c3")),
    ];
    expect(replay(...messages)).toEqual(["c1 connecting", "c2 connecting", "c3 connecting"]);
    // What the snapshot replaced may be removed while it is read.
    expect(replay(...messages.slice(1))).toEqual(["c1 connecting", "c2 connecting", "c3 connecting"]);
  });

  test("ignores a snapshot of which a part is missing, is another's, or comes behind something else", () => {
    const old = bytesOf({ number: 1 }, connecting("old"));
    const first = bytesOf({ kind: "snapshot", number: 2, isLast: false }, connecting("c1"));
    const middle = bytesOf({ kind: "snapshot", number: 3, part: 1, isLast: false }, connecting("c2"));
    const last = bytesOf({ kind: "snapshot", number: 4, part: 2 }, connecting("c3"));
    const others = bytesOf({ kind: "snapshot", number: 3, part: 1, author: "b" }, connecting("c2"));
    for (const broken of [[first], [first, middle], [first, last], [middle, last], [first, others], [last]]) {
      expect(replay(old, ...broken)).toEqual(["old connecting"]);
    }
    expect(replay(old, first, bytesOf({ number: 9 }), middle, last)).toEqual(["old connecting"]);
    const again = bytesOf({ kind: "snapshot", number: 5, isLast: false }, connecting("c1"));
    const end = bytesOf({ kind: "snapshot", number: 6, part: 1 }, connecting("c2"));
    expect(replay(old, first, again, end)).toEqual(["c1 connecting", "c2 connecting"]);
  });
});
