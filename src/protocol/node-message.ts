import { MAX_REASON_BYTES } from "./close-causes.ts";
import { isConnectionId } from "./connection-id.ts";
import type { Envelope, Question } from "./envelope.ts";
import { NEWEST_FORM, OLDEST_FORM } from "./forms.ts";
import { isHubName, isName } from "./names.ts";

/** What one node says to others of an envelope or a question. */
export type NodeMessage =
  | { readonly kind: "envelope"; readonly envelope: Envelope }
  | { readonly kind: "question"; readonly question: Question };

/** The second byte. */
const KIND = { textFrame: 1, binaryFrame: 2, close: 3, question: 4 } as const;

/** Form, kind, and the head's length as 32 bits, the highest first. */
const FIXED_BYTES = 6;

const NO_FRAME = new Uint8Array();

const utf8 = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Writes a message between nodes, in a form that every one of them reads.
 *
 * Shape: form, kind, length of the head; the head as JSON: target, verb and the like; then the frame's bytes as they are.
 * Cost:  a frame is copied once, however many nodes and sockets it is for.
 */
export function encodeEnvelope(envelope: Envelope, form: number = OLDEST_FORM): Uint8Array {
  if (envelope.verb === "close") return join({ form, kind: KIND.close, head: envelope, frame: NO_FRAME });
  const { frame, target, excluded } = envelope;
  const head = { target, excluded };
  if (typeof frame !== "string") return join({ form, kind: KIND.binaryFrame, head, frame });
  return join({ form, kind: KIND.textFrame, head, frame: utf8.encode(frame) });
}

/** Writes a question; its answer comes as one of the words of `Verdict`. */
export function encodeQuestion(question: Question, form: number = OLDEST_FORM): Uint8Array {
  return join({ form, kind: KIND.question, head: question, frame: NO_FRAME });
}

/**
 * Reads a message; null for anything that no node of this version writes.
 *
 * Names are checked as they are where clients, backends and the REST API give them: who may publish on the cluster's
 * subjects is trusted no more than these. An id among those to leave out that is no connection's is left away.
 */
export function decodeNodeMessage(bytes: Uint8Array): NodeMessage | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < FIXED_BYTES || view.getUint8(0) < OLDEST_FORM || view.getUint8(0) > NEWEST_FORM) return null;
  const headEnd = FIXED_BYTES + view.getUint32(2);
  if (headEnd > bytes.length) return null;
  try {
    const head: unknown = JSON.parse(decoder.decode(bytes.subarray(FIXED_BYTES, headEnd)));
    return readMessage(view.getUint8(1), head, bytes.subarray(headEnd));
  } catch {
    return null;
  }
}

/** The form of a message that only a newer version can read; null where this one should. */
export function newerFormOf(bytes: Uint8Array): number | null {
  const [form = 0] = bytes;
  return form > NEWEST_FORM ? form : null;
}

interface Pieces {
  readonly form: number;
  readonly kind: number;
  readonly head: object;
  readonly frame: Uint8Array;
}

function join({ form, kind, head, frame }: Pieces): Uint8Array {
  const headBytes = utf8.encode(JSON.stringify(head));
  const bytes = new Uint8Array(FIXED_BYTES + headBytes.length + frame.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, form);
  view.setUint8(1, kind);
  view.setUint32(2, headBytes.length);
  bytes.set(headBytes, FIXED_BYTES);
  bytes.set(frame, FIXED_BYTES + headBytes.length);
  return bytes;
}

function readMessage(kind: number, head: unknown, frame: Uint8Array): NodeMessage | null {
  switch (kind) {
    case KIND.textFrame:
      return isSendHead(head) ? { kind: "envelope", envelope: toSend(head, decoder.decode(frame)) } : null;
    case KIND.binaryFrame:
      return isSendHead(head) ? { kind: "envelope", envelope: toSend(head, frame) } : null;
    case KIND.close:
      return isClose(head) && frame.length === 0 ? { kind: "envelope", envelope: head } : null;
    case KIND.question:
      return isQuestion(head) && frame.length === 0 ? { kind: "question", question: head } : null;
    default:
      return null;
  }
}

type SendHead = Pick<Extract<Envelope, { verb: "send" }>, "target" | "excluded">;

/** Field by field: what else a head holds would stand in for the message's own. */
function toSend({ target, excluded }: SendHead, frame: string | Uint8Array): Envelope {
  return {
    verb: "send",
    target,
    excluded: excluded.every(isConnectionId) ? excluded : excluded.filter(isConnectionId),
    frame,
  };
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
