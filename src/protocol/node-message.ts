import { MAX_REASON_BYTES } from "./close-causes.ts";
import { isConnectionId } from "./connection-id.ts";
import type { Envelope, Question } from "./envelope.ts";
import { NEWEST_FORM, OLDEST_FORM } from "./forms.ts";
import { isHubName, isName } from "./names.ts";
import type { Payload, PayloadType } from "./payload.ts";

/** What one node says to others. */
export type NodeMessage =
  | { readonly kind: "envelope"; readonly envelope: Envelope }
  | { readonly kind: "question"; readonly question: Question }
  /** A message that only a newer version can read; `reason` is for the log. */
  | { readonly kind: "newer"; readonly reason: string };

/**
 * The second byte. `text` and `binary` are the two payloads of form 1. From form 2 on a payload of any type is a `payload`, and the head has
 * its type.
 */
const KIND = { text: 1, binary: 2, close: 3, question: 4, payload: 5 } as const;

/** The first form in which messages say the type of their payload. Source: decision 0044. */
const TYPED_FORM = 2;

/** Form, kind, and the head's length as 32 bits, the highest first. */
const FIXED_BYTES = 6;

/** The name of a payload's type, known or not. */
const TYPE_NAME = /^[a-z][a-z0-9-]{0,31}$/;

const NO_CONTENT = new Uint8Array();

const utf8 = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Writes a message between nodes, in a form that every one of them reads.
 *
 * Shape: form, kind, length of the head; the head as JSON: target, verb and others; then the payload's bytes as they are.
 * Cost:  a payload is copied once, however many nodes and sockets it is for.
 */
export function encodeEnvelope(envelope: Envelope, form: number = OLDEST_FORM): Uint8Array {
  if (envelope.verb === "close") return join({ form, kind: KIND.close, head: envelope, content: NO_CONTENT });
  const { payload, target, excluded } = envelope;
  const { type } = payload;
  const content = contentOf(payload);
  if (form < TYPED_FORM) return join({ form, kind: KIND[type], head: { target, excluded }, content });
  return join({ form, kind: KIND.payload, head: { target, excluded, type }, content });
}

/** Writes a question; its answer comes as one of the words of `Verdict`. */
export function encodeQuestion(question: Question, form: number = OLDEST_FORM): Uint8Array {
  return join({ form, kind: KIND.question, head: question, content: NO_CONTENT });
}

/**
 * Reads a message; null for anything that no version writes.
 *
 * Names are checked as they are where clients, backends and the REST API give them: a client that may publish on the cluster's
 * subjects is trusted no more than these. An id among `excluded` that cannot be a connection's is dropped.
 */
export function decodeNodeMessage(bytes: Uint8Array): NodeMessage | null {
  const [form = 0] = bytes;
  if (form > NEWEST_FORM) return { kind: "newer", reason: `it is in form ${form} of a newer version` };
  if (bytes.length < FIXED_BYTES || form < OLDEST_FORM) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headEnd = FIXED_BYTES + view.getUint32(2);
  if (headEnd > bytes.length) return null;
  try {
    const head: unknown = JSON.parse(decoder.decode(bytes.subarray(FIXED_BYTES, headEnd)));
    return readMessage(view.getUint8(1), head, bytes.subarray(headEnd));
  } catch {
    return null;
  }
}

interface Pieces {
  readonly form: number;
  readonly kind: number;
  readonly head: object;
  readonly content: Uint8Array;
}

function join({ form, kind, head, content }: Pieces): Uint8Array {
  const headBytes = utf8.encode(JSON.stringify(head));
  const bytes = new Uint8Array(FIXED_BYTES + headBytes.length + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, form);
  view.setUint8(1, kind);
  view.setUint32(2, headBytes.length);
  bytes.set(headBytes, FIXED_BYTES);
  bytes.set(content, FIXED_BYTES + headBytes.length);
  return bytes;
}

/** Makes payloads of their bytes. Errors: throws where a text is not UTF-8. */
const FROM_CONTENT: Readonly<Record<PayloadType, (content: Uint8Array) => Payload>> = {
  text: (content) => ({ type: "text", data: decoder.decode(content) }),
  binary: (content) => ({ type: "binary", data: content }),
};

function isKnownType(type: string): type is PayloadType {
  return Object.hasOwn(FROM_CONTENT, type);
}

function contentOf(payload: Payload): Uint8Array {
  switch (payload.type) {
    case "text":
      return utf8.encode(payload.data);
    case "binary":
      return payload.data;
  }
}

function readMessage(kind: number, head: unknown, content: Uint8Array): NodeMessage | null {
  switch (kind) {
    case KIND.text:
      return isSendHead(head) ? readSend(head, "text", content) : null;
    case KIND.binary:
      return isSendHead(head) ? readSend(head, "binary", content) : null;
    case KIND.payload:
      return isSendHead(head) && isTypeName(head.type) ? readSend(head, head.type, content) : null;
    case KIND.close:
      return isClose(head) && content.length === 0 ? { kind: "envelope", envelope: head } : null;
    case KIND.question:
      return isQuestion(head) && content.length === 0 ? { kind: "question", question: head } : null;
    default:
      return null;
  }
}

interface SendHead extends Pick<Extract<Envelope, { verb: "send" }>, "target" | "excluded"> {
  /** In form 2. */
  readonly type?: unknown;
}

/** Field by field: other keys of a head would replace the message's own. */
function readSend({ target, excluded: ids }: SendHead, type: string, content: Uint8Array): NodeMessage {
  if (!isKnownType(type)) {
    return { kind: "newer", reason: `its payload is of type ${type}, which only a newer version knows` };
  }
  const excluded = ids.every(isConnectionId) ? ids : ids.filter(isConnectionId);
  return { kind: "envelope", envelope: { verb: "send", target, excluded, payload: FROM_CONTENT[type](content) } };
}

function isSendHead(head: unknown): head is SendHead {
  if (!isRecord(head) || !isRecord(head["target"])) return false;
  const { target, excluded } = head;
  const isHub = isRecord(target) && target["kind"] === "hub" && isHubText(target["hub"]);
  return (isHub || isMembers(target)) && Array.isArray(excluded) && excluded.every((id) => typeof id === "string");
}

function isClose(head: unknown): head is Extract<Envelope, { verb: "close" }> {
  return isRecord(head) && head["verb"] === "close" && isReason(head["reason"]) && isMembers(head["target"]);
}

function isQuestion(head: unknown): head is Question {
  if (!isRecord(head) || !isMembers(head["target"])) return false;
  const { verb, group, afterRules } = head;
  switch (verb) {
    case "exists":
      return true;
    case "inGroup":
      return isNameText(group);
    case "join":
      return isNameText(group) && isRevision(afterRules);
    case "leave":
      return (isNameText(group) || group === null) && isRevision(afterRules);
    default:
      return false;
  }
}

function isTypeName(value: unknown): value is string {
  return typeof value === "string" && TYPE_NAME.test(value);
}

function isRevision(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isMembers(value: unknown): boolean {
  if (!isRecord(value) || !isHubText(value["hub"])) return false;
  const { kind, name } = value;
  if (kind === "connection") return typeof name === "string" && isConnectionId(name);
  return (kind === "user" || kind === "group") && isNameText(name);
}

function isHubText(value: unknown): boolean {
  return typeof value === "string" && isHubName(value);
}

function isNameText(value: unknown): boolean {
  return typeof value === "string" && isName(value);
}

function isReason(value: unknown): boolean {
  return typeof value === "string" && value.length <= MAX_REASON_BYTES && utf8.encode(value).length <= MAX_REASON_BYTES;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
