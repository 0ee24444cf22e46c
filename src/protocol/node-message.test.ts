import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Envelope, Members, Question, Target } from "./envelope.ts";
import { NEWEST_FORM, OLDEST_FORM } from "./forms.ts";
import { isName } from "./names.ts";
import { decodeNodeMessage, encodeEnvelope, encodeQuestion, newerFormOf } from "./node-message.ts";

const text = fc.string({ unit: "grapheme", maxLength: 40 }).filter((value) => value.isWellFormed());
const name = text.filter(isName);
const hub = fc.constantFrom("chat", "Chat.EU", "_default", "a[1]");
const connectionId = fc.stringMatching(/^[A-Za-z0-9_-]{1,30}$/);
const members: fc.Arbitrary<Members> = fc.oneof(
  fc.record({ kind: fc.constantFrom("user" as const, "group" as const), hub, name }),
  fc.record({ kind: fc.constant("connection" as const), hub, name: connectionId }),
);
const target: fc.Arbitrary<Target> = fc.oneof(members, fc.record({ kind: fc.constant("hub" as const), hub }));
const envelope: fc.Arbitrary<Envelope> = fc.oneof(
  fc.record({
    verb: fc.constant("send" as const),
    target,
    excluded: fc.array(connectionId, { maxLength: 5 }),
    frame: fc.oneof(text, fc.uint8Array({ maxLength: 300 })),
  }),
  fc.record({
    verb: fc.constant("close" as const),
    target: members,
    reason: text.filter((value) => Buffer.byteLength(value) <= 123),
  }),
);
const question: fc.Arbitrary<Question> = fc.oneof(
  fc.record({ verb: fc.constant("exists" as const), target: members }),
  fc.record({ verb: fc.constant("inGroup" as const), target: members, group: name }),
  fc.record({ verb: fc.constant("join" as const), target: members, group: name, afterRules: fc.nat() }),
  fc.record({ verb: fc.constant("leave" as const), target: members, group: fc.option(name), afterRules: fc.nat() }),
);

/** As an object whose bytes compare: a frame may be a view of a longer buffer. */
function plain(value: Envelope): unknown {
  return "frame" in value && typeof value.frame !== "string" ? { ...value, frame: [...value.frame] } : value;
}

describe("a message between nodes", () => {
  test("comes back as it was, wherever in a buffer it stands", () => {
    fc.assert(
      fc.property(envelope, fc.nat(9), (sent, offset) => {
        const bytes = encodeEnvelope(sent);
        const shifted = new Uint8Array(bytes.length + offset).subarray(offset);
        shifted.set(bytes);
        const read = decodeNodeMessage(shifted);
        if (read?.kind !== "envelope") throw new Error("no envelope");
        expect(plain(read.envelope)).toEqual(plain(sent));
      }),
    );
    fc.assert(
      fc.property(question, (asked) => {
        expect(decodeNodeMessage(encodeQuestion(asked))).toEqual({ kind: "question", question: asked });
      }),
    );
  });

  test("says its form in its first byte, and is read in every form that this version knows", () => {
    const asked = { verb: "exists", target: { kind: "user", hub: "c", name: "u" } } as const;
    for (let form = OLDEST_FORM; form <= NEWEST_FORM; form++) {
      const bytes = encodeQuestion(asked, form);
      expect([bytes[0], newerFormOf(bytes)]).toEqual([form, null]);
      expect(decodeNodeMessage(bytes)).toEqual({ kind: "question", question: asked });
    }
    const newer = encodeQuestion(asked, NEWEST_FORM + 1);
    expect([decodeNodeMessage(newer), newerFormOf(newer)]).toEqual([null, NEWEST_FORM + 1]);
    expect(newerFormOf(new Uint8Array())).toBeNull();
  });

  test("carries a frame's bytes as they are: a long text costs its UTF-8, and bytes themselves", () => {
    for (const frame of ["ä".repeat(1000), new Uint8Array(2000)]) {
      const bytes = encodeEnvelope({ verb: "send", target: { kind: "hub", hub: "c" }, excluded: [], frame });
      expect(bytes.length).toBeLessThan(2100);
    }
  });
});

describe("bytes that are no message", () => {
  const isWhole = (bytes: Uint8Array): boolean => {
    const read = decodeNodeMessage(bytes);
    if (read === null) return false;
    const { target: of } = read.kind === "envelope" ? read.envelope : read.question;
    return typeof of.hub === "string" && (of.kind === "hub" || typeof of.name === "string");
  };

  test("random and truncated ones are refused", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => decodeNodeMessage(bytes) === null));
    const close = encodeEnvelope({ verb: "close", target: { kind: "user", hub: "c", name: "u" }, reason: "r" });
    for (let length = 0; length < close.length; length++)
      expect(decodeNodeMessage(close.subarray(0, length))).toBeNull();
  });

  test("with bytes behind a question or a close are refused", () => {
    const target = { kind: "user", hub: "c", name: "u" } as const;
    const whole = [encodeQuestion({ verb: "exists", target }), encodeEnvelope({ verb: "close", target, reason: "r" })];
    for (const bytes of whole) expect(decodeNodeMessage(Buffer.concat([bytes, Buffer.from("x")]))).toBeNull();
  });

  test("changed ones are refused or decoded whole: none throws, none is decoded in part", () => {
    const sent = fc.oneof(
      envelope.map((sent) => encodeEnvelope(sent)),
      question.map((asked) => encodeQuestion(asked)),
    );
    fc.assert(
      fc.property(sent, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }), (bytes, changes) => {
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        expect(decodeNodeMessage(bytes) === null || isWhole(bytes)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test("heads of another shape are refused", () => {
    const good = { verb: "join", target: { kind: "user", hub: "c", name: "u" }, group: "g", afterRules: 0 };
    const bad = [
      null,
      [],
      1,
      { ...good, target: null },
      { ...good, target: { kind: "hub", hub: "c" } },
      { ...good, target: { kind: "user", hub: "c" } },
      { ...good, target: { kind: "nobody", hub: "c", name: "u" } },
      { ...good, group: null },
      { ...good, afterRules: "0" },
      { ...good, verb: "kill" },
    ];
    expect(decodeNodeMessage(withHead(QUESTION, good))).not.toBeNull();
    for (const head of bad) expect(decodeNodeMessage(withHead(QUESTION, head))).toBeNull();
  });

  test("a revision that no rule can have is refused: a node would wait for it endlessly", () => {
    const head = { verb: "join", target: { kind: "user", hub: "c", name: "u" }, group: "g", afterRules: 0 };
    for (const afterRules of ["1e999", "-1", "0.5"]) {
      const json = JSON.stringify(head).replace('"afterRules":0', `"afterRules":${afterRules}`);
      expect(decodeNodeMessage(withHead(QUESTION, json))).toBeNull();
    }
  });

  test("what a head holds beside its own does not become part of the message", () => {
    const head = { target: { kind: "hub", hub: "c" }, excluded: [], verb: "close", reason: 1, frame: 7 };
    const envelope: Envelope = { verb: "send", target: { kind: "hub", hub: "c" }, excluded: [], frame: "" };
    expect(decodeNodeMessage(withHead(TEXT_FRAME, head))).toEqual({ kind: "envelope", envelope });
  });

  describe("invalid names", () => {
    const user = (changes: object) => ({ target: { kind: "user", hub: "c", name: "u", ...changes }, verb: "exists" });
    const rows: readonly (readonly [string, object])[] = [
      ["a hub", user({ hub: "no hub" })],
      ["a hub of another kind of text", user({ hub: "c\0" })],
      ["a hub that is too long", user({ hub: "c".repeat(129) })],
      ["no hub", user({ hub: "" })],
      ["a user", user({ name: "" })],
      ["a user with a space in front", user({ name: " u" })],
      ["a user with a line's end", user({ name: "a\r\nb" })],
      ["a user that is too long", user({ name: "u".repeat(513) })],
      ["a group", user({ kind: "group", name: ".." })],
      ["a connection", user({ kind: "connection", name: "a.b" })],
      ["a connection that is too long", user({ kind: "connection", name: "a".repeat(65) })],
      ["a question's group", { ...user({}), verb: "inGroup", group: "g " }],
      ["a group to join", { ...user({}), verb: "join", group: "\u0000", afterRules: 0 }],
      ["a group to leave", { ...user({}), verb: "leave", group: "", afterRules: 0 }],
    ];
    test.each(rows)("%s: a question is refused", (_what, head) => {
      expect(decodeNodeMessage(withHead(QUESTION, user({})))).not.toBeNull();
      expect(decodeNodeMessage(withHead(QUESTION, head))).toBeNull();
    });

    test.each(rows.slice(0, 11))("%s: a send or a close is refused", (_what, head) => {
      expect(decodeNodeMessage(withHead(TEXT_FRAME, { ...head, excluded: [] }))).toBeNull();
      expect(decodeNodeMessage(withHead(CLOSE, { ...head, verb: "close", reason: "" }))).toBeNull();
    });

    test("a hub to send to", () => {
      const head = (hub: string) => ({ target: { kind: "hub", hub }, excluded: [] });
      expect(decodeNodeMessage(withHead(TEXT_FRAME, head("c")))).not.toBeNull();
      expect(decodeNodeMessage(withHead(TEXT_FRAME, head("c d")))).toBeNull();
    });

    test("among those that are left out are not heeded: they are nobody's", () => {
      const head = { target: { kind: "hub", hub: "c" }, excluded: ["a", "", "b.c", "d\0", "x".repeat(65), "e"] };
      expect(decodeNodeMessage(withHead(TEXT_FRAME, head))).toMatchObject({ envelope: { excluded: ["a", "e"] } });
    });

    test("a reason that fits into no close frame", () => {
      const head = (reason: string) => ({ verb: "close", target: { kind: "user", hub: "c", name: "u" }, reason });
      expect(decodeNodeMessage(withHead(CLOSE, head("ä".repeat(61))))).not.toBeNull();
      expect(decodeNodeMessage(withHead(CLOSE, head("ä".repeat(62))))).toBeNull();
    });
  });

  const TEXT_FRAME = 1;
  const CLOSE = 3;
  const QUESTION = 4;

  /** A message without a frame, of any head; a string stands as it is. */
  function withHead(kind: number, head: unknown): Uint8Array {
    const json = Buffer.from(typeof head === "string" ? head : JSON.stringify(head));
    const bytes = Buffer.alloc(6 + json.length);
    bytes[0] = 1;
    bytes[1] = kind;
    bytes.writeUInt32BE(json.length, 2);
    json.copy(bytes, 6);
    return bytes;
  }
});
