import { encodeEnvelope, encodeQuestion } from "../../../src/protocol/node-message.ts";

/** What somebody who may publish on a cluster's subjects can send, with text that is expensive to read. */
export interface HostileNodeMessages {
  readonly name: string;
  /** The end of the subject, behind the cluster's prefix. */
  readonly subject: string;
  /** About `byteCount` bytes, in as many messages as it takes. */
  readonly build: (byteCount: number) => readonly (string | Uint8Array)[];
}

const HUB = { kind: "hub", hub: "chat" } as const;
/** The form of a message, and a kind for each form of its payload. */
const TEXT = [1, 1] as const;
const TYPED = [2, 5] as const;

function send({ excluded = [], text = "x" }: { excluded?: readonly string[]; text?: string }): Uint8Array[] {
  return [encodeEnvelope({ verb: "send", target: HUB, excluded, payload: { type: "text", data: text } })];
}

/** A message whose head is no JSON that hubwire writes. */
function withHead(head: string, [form, kind]: readonly [number, number] = TEXT): Uint8Array[] {
  const bytes = Buffer.alloc(6 + head.length);
  bytes.writeUInt8(form, 0);
  bytes.writeUInt8(kind, 1);
  bytes.writeUInt32BE(head.length, 2);
  bytes.write(head, 6, "latin1");
  return [bytes];
}

/** Parts of one message, with one byte in each: 0xff, publisher, message, index, count. */
function parts(byteCount: number): Uint8Array[] {
  const count = Math.floor(byteCount / 22);
  return Array.from({ length: count - 1 }, (_empty, index) => {
    const part = Buffer.alloc(22);
    part.writeUInt8(0xff, 0);
    part.writeUInt32BE(index, 13);
    part.writeUInt32BE(count, 17);
    return part;
  });
}

const members = (name: string) => ({ kind: "user", hub: "chat", name }) as const;

/** What a node reads of what comes from NATS. */
export const HOSTILE_NODE_MESSAGES: readonly HostileNodeMessages[] = [
  { name: "a long text", subject: "hub.chat", build: (size) => send({ text: "a".repeat(size) }) },
  {
    name: "ids that are left out",
    subject: "hub.chat",
    build: (size) => send({ excluded: Array.from({ length: size / 8 }, (_empty, i) => i.toString(36)) }),
  },
  {
    name: "one id that is left out again and again",
    subject: "hub.chat",
    build: (size) => send({ excluded: Array<string>(size / 4).fill("a") }),
  },
  {
    name: "a long type of a payload",
    subject: "hub.chat",
    build: (size) => withHead(JSON.stringify({ target: HUB, excluded: [], type: `${"a-".repeat(size / 2)}!` }), TYPED),
  },
  { name: "brackets in brackets", subject: "hub.chat", build: (size) => withHead("[".repeat(size)) },
  { name: "white space of JSON", subject: "hub.chat", build: (size) => withHead(`{${" ".repeat(size)}`) },
  {
    name: "a long name",
    subject: "hub.chat",
    build: (size) => [encodeQuestion({ verb: "inGroup", target: members("a".repeat(size)), group: " ".repeat(size) })],
  },
  { name: "parts of one byte", subject: "hub.chat", build: parts },
  { name: "a beat: spaces", subject: "beat", build: (size) => [`hello a${" ".repeat(size)}b`] },
  { name: "a beat: a long name", subject: "beat", build: (size) => [`beat ${"a".repeat(size)}`] },
];
