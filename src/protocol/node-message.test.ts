import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { toPayload } from "../../test/support/payloads.ts";
import type { Envelope, Members, Question, Target } from "./envelope.ts";
import { NEWEST_FORM, OLDEST_FORM } from "./forms.ts";
import { isName } from "./names.ts";
import { decodeNodeMessage, encodeEnvelope, encodeQuestion, type NodeMessage } from "./node-message.ts";

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
    payload: fc.oneof(text, fc.uint8Array({ maxLength: 300 })).map(toPayload),
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

const form = fc.integer({ min: OLDEST_FORM, max: NEWEST_FORM });

/** As an object whose bytes compare: a payload may be a view of a longer buffer. */
function plain(value: Envelope): unknown {
  if (value.verb === "close" || value.payload.type !== "binary") return value;
  return { ...value, payload: { type: "binary", data: [...value.payload.data] } };
}

describe("a message between nodes", () => {
  test("comes back as it was, from any place in a buffer", () => {
    fc.assert(
      fc.property(envelope, fc.nat(9), form, (sent, offset, form) => {
        const bytes = encodeEnvelope(sent, form);
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
      expect(bytes[0]).toBe(form);
      expect(decodeNodeMessage(bytes)).toEqual({ kind: "question", question: asked });
    }
    const newer = encodeQuestion(asked, NEWEST_FORM + 1);
    const reason = `it is in form ${NEWEST_FORM + 1} of a newer version`;
    expect(decodeNodeMessage(newer)).toEqual({ kind: "newer", reason });
    expect(decodeNodeMessage(newer.subarray(0, 1))).toEqual({ kind: "newer", reason });
    expect(decodeNodeMessage(new Uint8Array())).toBeNull();
  });

  test("carries a payload's bytes as they are: a long text costs its UTF-8, and bytes themselves", () => {
    for (const payload of ["ä".repeat(1000), new Uint8Array(2000)].map(toPayload)) {
      const bytes = encodeEnvelope({ verb: "send", target: { kind: "hub", hub: "c" }, excluded: [], payload });
      expect(bytes.length).toBeLessThan(2100);
    }
  });
});

describe("form 1, which 0.1 reads", () => {
  /** Written by 0.1, one char a byte. */
  const rows: readonly (readonly [string, string, NodeMessage])[] = [
    [
      "text",
      '\x01\x01\0\0\0\x4c{"target":{"kind":"group","hub":"chat","name":"red"},"excluded":["c1","c2"]}gr\xc3\xbc\xc3\x9f',
      {
        kind: "envelope",
        envelope: {
          verb: "send",
          target: { kind: "group", hub: "chat", name: "red" },
          excluded: ["c1", "c2"],
          payload: { type: "text", data: "grüß" },
        },
      },
    ],
    [
      "bytes",
      '\x01\x02\0\0\0\x34{"target":{"kind":"hub","hub":"chat"},"excluded":[]}\0\xff\n',
      {
        kind: "envelope",
        envelope: {
          verb: "send",
          target: { kind: "hub", hub: "chat" },
          excluded: [],
          payload: { type: "binary", data: Buffer.from([0, 255, 10]) },
        },
      },
    ],
    [
      "a close",
      '\x01\x03\0\0\0\x52{"verb":"close","target":{"kind":"user","hub":"chat","name":"ann"},"reason":"bye"}',
      {
        kind: "envelope",
        envelope: { verb: "close", target: { kind: "user", hub: "chat", name: "ann" }, reason: "bye" },
      },
    ],
    [
      "a question",
      '\x01\x04\0\0\0\x5f{"verb":"join","target":{"kind":"user","hub":"chat","name":"ann"},"group":"red","afterRules":7}',
      {
        kind: "question",
        question: {
          verb: "join",
          target: { kind: "user", hub: "chat", name: "ann" },
          group: "red",
          afterRules: 7,
        },
      },
    ],
  ];
  test.each(rows)("%s: is read, and written byte for byte", (_what, text, message) => {
    const bytes = Buffer.from(text, "latin1");
    expect(decodeNodeMessage(bytes)).toEqual(message);
    expect(Buffer.from(encodeIn(1, message)).toString("latin1")).toBe(text);
  });
});

describe("form 2", () => {
  test("says the type of a payload", () => {
    const target = { kind: "hub", hub: "c" } as const;
    for (const payload of [toPayload("ä"), toPayload(Uint8Array.of(0, 255))]) {
      const bytes = Buffer.from(encodeEnvelope({ verb: "send", target, excluded: [], payload }, 2));
      const headEnd = 6 + bytes.readUInt32BE(2);
      expect([bytes[0], bytes[1]]).toEqual([2, 5]);
      expect(JSON.parse(bytes.toString("utf8", 6, headEnd))).toEqual({ target, excluded: [], type: payload.type });
      expect(bytes.subarray(headEnd)).toEqual(Buffer.from(payload.data));
    }
  });

  test.each(["json", "constructor"])("a payload of the unknown type %s is told by its type", (type) => {
    const head = { target: { kind: "hub", hub: "c" }, excluded: [], type };
    const reason = `its payload is of type ${type}, which only a newer version knows`;
    expect(decodeNodeMessage(withHead(PAYLOAD, head))).toEqual({ kind: "newer", reason });
  });

  test.each([
    ["no type", undefined],
    ["an empty type", ""],
    ["a type that is no name", "a\nb"],
    ["a type that is too long", "a".repeat(33)],
    ["a type of another kind", 1],
  ])("%s: the message is refused", (_what, type) => {
    const head = { target: { kind: "hub", hub: "c" }, excluded: [] };
    expect(decodeNodeMessage(withHead(PAYLOAD, { ...head, type: "text" }))).not.toBeNull();
    expect(decodeNodeMessage(withHead(PAYLOAD, { ...head, type }))).toBeNull();
  });

  test("a text that is not UTF-8 is refused", () => {
    const head = { target: { kind: "hub", hub: "c" }, excluded: [], type: "text" };
    expect(decodeNodeMessage(Buffer.concat([withHead(PAYLOAD, head), Uint8Array.of(0xff)]))).toBeNull();
  });
});

describe("bytes that are no message", () => {
  const isWhole = (bytes: Uint8Array): boolean => {
    const read = decodeNodeMessage(bytes);
    if (read === null) return false;
    if (read.kind === "newer") return true;
    const { target: of } = read.kind === "envelope" ? read.envelope : read.question;
    return typeof of.hub === "string" && (of.kind === "hub" || typeof of.name === "string");
  };

  test("random and truncated ones are refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const [first = 0] = bytes;
        expect(decodeNodeMessage(bytes)?.kind).toBe(first > NEWEST_FORM ? "newer" : undefined);
      }),
    );
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
      fc.tuple(envelope, form).map(([sent, form]) => encodeEnvelope(sent, form)),
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

  test("other keys of a head do not become part of the message", () => {
    const head = { target: { kind: "hub", hub: "c" }, excluded: [], verb: "close", reason: 1, payload: 7 };
    const payload = toPayload("");
    const envelope: Envelope = { verb: "send", target: { kind: "hub", hub: "c" }, excluded: [], payload };
    expect(decodeNodeMessage(withHead(TEXT, head))).toEqual({ kind: "envelope", envelope });
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
      expect(decodeNodeMessage(withHead(TEXT, { ...head, excluded: [] }))).toBeNull();
      expect(decodeNodeMessage(withHead(CLOSE, { ...head, verb: "close", reason: "" }))).toBeNull();
    });

    test("a hub to send to", () => {
      const head = (hub: string) => ({ target: { kind: "hub", hub }, excluded: [] });
      expect(decodeNodeMessage(withHead(TEXT, head("c")))).not.toBeNull();
      expect(decodeNodeMessage(withHead(TEXT, head("c d")))).toBeNull();
    });

    test("among those that are left out are not heeded: they are nobody's", () => {
      const head = { target: { kind: "hub", hub: "c" }, excluded: ["a", "", "b.c", "d\0", "x".repeat(65), "e"] };
      expect(decodeNodeMessage(withHead(TEXT, head))).toMatchObject({ envelope: { excluded: ["a", "e"] } });
    });

    test("a reason that fits into no close frame", () => {
      const head = (reason: string) => ({ verb: "close", target: { kind: "user", hub: "c", name: "u" }, reason });
      expect(decodeNodeMessage(withHead(CLOSE, head("ä".repeat(61))))).not.toBeNull();
      expect(decodeNodeMessage(withHead(CLOSE, head("ä".repeat(62))))).toBeNull();
    });
  });
});

const TEXT = 1;
const CLOSE = 3;
const QUESTION = 4;
const PAYLOAD = 5;

/** A message without content, of any head; a string is written as it is. */
function withHead(kind: number, head: unknown): Buffer {
  const json = Buffer.from(typeof head === "string" ? head : JSON.stringify(head));
  const bytes = Buffer.alloc(6 + json.length);
  bytes[0] = kind === PAYLOAD ? 2 : 1;
  bytes[1] = kind;
  bytes.writeUInt32BE(json.length, 2);
  json.copy(bytes, 6);
  return bytes;
}

function encodeIn(form: number, message: NodeMessage): Uint8Array {
  if (message.kind === "newer") throw new Error("nothing that this version writes");
  return message.kind === "envelope" ? encodeEnvelope(message.envelope, form) : encodeQuestion(message.question, form);
}
