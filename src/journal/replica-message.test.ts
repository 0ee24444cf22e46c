import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { logOf, VERSIONS } from "../../test/support/earlier-versions.ts";
import { ANY_TEXT, COMMON_FACTS } from "../../test/support/facts.ts";
import { dueOf, factsOf, statesOf } from "../../test/support/replica-stage.ts";
import type { DueDisconnect, JournalEntry } from "../core/ports/journal.ts";
import {
  formatEntry,
  formatMessage,
  formatNamed,
  formatSettled,
  parseMessage,
  type ReplicaMessageHead,
} from "./replica-message.ts";
import { ReplicaReplay } from "./replica-replay.ts";

/** With facts that only a newer version knows, too. */
const ALL_FACTS = fc.oneof(
  COMMON_FACTS,
  fc.tuple(COMMON_FACTS, ANY_TEXT).map(([facts, text]) => ({ ...facts, rare: { text } })),
);
const NTH = fc.constantFrom<Pick<DueDisconnect, "nth">>({}, { nth: "first" }, { nth: "second" });
const DUE = fc
  .tuple(
    NTH,
    fc.record({
      facts: ALL_FACTS,
      end: fc.record({ code: fc.nat(), reason: ANY_TEXT }),
      connectOutcomeUnknown: fc.boolean(),
      dueSinceMs: fc.double({ noNaN: true, noDefaultInfinity: true }).filter((time) => !Object.is(time, -0)),
      triedForMs: fc.nat(),
      refusedForMs: fc.nat(),
    }),
  )
  .map(([nth, due]) => ({ ...due, ...nth }));
const ENTRY: fc.Arbitrary<JournalEntry> = fc.oneof(
  fc.record({ state: fc.constantFrom("connecting" as const, "connected" as const), facts: ALL_FACTS }),
  fc.record({ state: fc.constant("due" as const), due: DUE }),
  fc.record({
    state: fc.constant("dead" as const),
    letter: fc
      .tuple(DUE, fc.nat(), ANY_TEXT, fc.nat())
      .map(([due, diedAtMs, cause, keptForMs]) => ({ ...due, diedAtMs, keptForMs, cause })),
  }),
);

const NOW = { form: 2, keptForMs: 0 };

function head(changes: Partial<ReplicaMessageHead> = {}): ReplicaMessageHead {
  return { kind: "batch", author: "a", number: 1, part: 0, isLast: true, ...changes };
}
function bytesOf(changes: Partial<ReplicaMessageHead>, ...records: string[]): Uint8Array {
  return Buffer.from(formatMessage(head(changes), { text: records.join(","), form: 2 }));
}
function replay(...messages: Uint8Array[]): string[] {
  const log = new ReplicaReplay();
  for (const bytes of messages) {
    const message = parseMessage(bytes);
    if (message !== null) log.read(message);
  }
  return statesOf(log.entries);
}
const connecting = (id: string) => formatEntry({ state: "connecting", facts: factsOf(id) }, NOW);

describe("a message of a log", () => {
  test("of form 1 is byte for byte what 0.1 writes, and reads", () => {
    const [snapshot, batch, settled, fence] = logOf("version-1").map((bytes) => Buffer.from(bytes).toString());
    const facts = (connectionId: string) => ({
      connectionId,
      hub: "Chat",
      userId: `user of ${connectionId}`,
      claims: "sub: ann; ",
      clientQuery: "room=%C3%A4",
      forwardedFor: "10.0.0.1",
      rare: { origin: "https://a.example" },
    });
    const due = (id: string) => {
      const end = { code: 4001, reason: "bye" };
      return {
        facts: facts(id),
        end,
        connectOutcomeUnknown: false,
        dueSinceMs: 1_700_000_000_000,
        triedForMs: 9,
        refusedForMs: 9,
      };
    };
    const letter = {
      ...due("dead-1"),
      diedAtMs: 1_700_003_600_000,
      keptForMs: 7,
      cause: "answered with status 503",
    };
    const old = { form: 1, keptForMs: 7 };
    const write = (kind: ReplicaMessageHead["kind"], number: number, ...records: string[]) =>
      formatMessage(head({ kind, author: "author01", number }), { text: records.join(","), form: 1 });
    const connected = { ...facts("connected-1"), userId: "ann" };
    expect(
      write(
        "snapshot",
        1,
        formatEntry({ state: "connecting", facts: facts("connecting-1") }, old),
        formatEntry({ state: "connected", facts: connected }, old),
      ),
    ).toBe(snapshot ?? "");
    expect(
      write(
        "batch",
        2,
        formatEntry({ state: "due", due: due("due-1") }, old),
        formatEntry({ state: "dead", letter }, old),
        formatNamed("connecting-1", "bob"),
        formatEntry({ state: "connecting", facts: facts("settled-1") }, old),
      ),
    ).toBe(batch ?? "");
    expect(write("batch", 3, formatSettled("settled-1"))).toBe(settled ?? "");
    expect(write("fence", 0)).toBe(fence ?? "");
  });

  test.each(VERSIONS)("that %s wrote is read as it was meant", (version) => {
    expect(replay(...logOf(version))).toEqual([
      "connecting-1 connected",
      "connected-1 connected",
      "due-1 due",
      "dead-1 dead",
    ]);
  });

  test("of form 2 without what this version adds, as earlier ones write it, was not refused and is the only event", () => {
    const [, batch = new Uint8Array()] = logOf("version-2");
    const [due, dead] = parseMessage(batch)?.records.map(({ change }) => change) ?? [];
    expect(due).toMatchObject({ due: { triedForMs: 5000, refusedForMs: 0 } });
    expect(dead).toMatchObject({ letter: { triedForMs: 5000, keptForMs: 7, refusedForMs: 0 } });
    const [, later = new Uint8Array()] = logOf("version-3");
    const [only] = parseMessage(later)?.records.map(({ change }) => change) ?? [];
    expect(only).toMatchObject({ due: { triedForMs: 5000, refusedForMs: 3000 } });
    expect(JSON.stringify([due, dead, only])).not.toContain("nth");
  });

  test("of form 2 with facts as seven texts, as earlier ones write it, has all of them", () => {
    const [snapshot = new Uint8Array()] = logOf("version-4");
    const changes = parseMessage(snapshot)?.records.map(({ change }) => change) ?? [];
    const facts = { hub: "Chat", claims: "sub: ann; ", clientQuery: "room=%C3%A4", forwardedFor: "10.0.0.1" };
    const rare = { userIdCoding: "latin1", news: [1, { a: null }] } as const;
    expect(changes as unknown[]).toEqual([
      { state: "connecting", facts: { connectionId: "connecting-1", userId: "user of connecting-1", ...facts } },
      { state: "connected", facts: { connectionId: "connected-1", userId: "ann", ...facts, rare } },
    ]);
  });

  test("brings every entry through as it was, with any strings", () => {
    fc.assert(
      fc.property(fc.array(ENTRY), (entries) => {
        const texts = entries.map((entry) => {
          return formatEntry(entry, { form: 2, keptForMs: entry.state === "dead" ? entry.letter.keptForMs : 0 });
        });
        const message = parseMessage(bytesOf({}, ...texts));
        expect(message?.records.map(({ change }) => change)).toEqual(entries);
      }),
    );
  });

  test("is skipped where it is damaged, and never throws", () => {
    const whole = bytesOf({}, formatEntry({ state: "due", due: dueOf("c1") }, NOW), formatNamed("c2", "ann"));
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
    expect(parseMessage(Buffer.from(formatMessage(head(), { text: "", form: 3 })))).toBeNull();
  });
});

describe("the replay of a log", () => {
  test("brings each connection into its last state, and forgets what was settled", () => {
    const due = formatEntry({ state: "due", due: dueOf("c1") }, NOW);
    const messages = [bytesOf({}, connecting("c1"), connecting("c2"), connecting("c3"))];
    expect(replay(...messages)).toEqual(["c1 connecting", "c2 connecting", "c3 connecting"]);
    messages.push(bytesOf({}, formatNamed("c2", "bob"), due, formatSettled("c3")));
    expect(replay(...messages)).toEqual(["c2 connected", "c1 due"]);
  });

  test("names nobody of whom it has not heard, and nobody who is not connected any more", () => {
    const due = formatEntry({ state: "due", due: dueOf("c1") }, NOW);
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
