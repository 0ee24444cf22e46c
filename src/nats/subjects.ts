import { createHash } from "node:crypto";
import type { Target } from "../protocol/envelope.ts";
import { hubKey } from "../protocol/names.ts";

/** A longer name, in bytes of UTF-8, is hashed: a subject must fit the server's 4 kB line together with other names. */
const MAX_PLAIN_BYTES = 64;

/**
 * A name as one token of a subject or of a key-value key, different for different names.
 *
 * Shape:  letters, digits, `-` and `_` are unchanged, any other byte of UTF-8 is `=XX`. A name over 64 bytes is `==` and
 *         the base64url of its SHA-256; no other token begins so.
 */
export function encodeToken(name: string): string {
  // Most names need nothing: no buffer is made for them.
  if (name.length <= MAX_PLAIN_BYTES && /^[A-Za-z0-9_-]+$/.test(name)) return name;
  const bytes = Buffer.from(name, "utf8");
  if (bytes.length > MAX_PLAIN_BYTES) return `==${createHash("sha256").update(bytes).digest("base64url")}`;
  let token = "";
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    token += /[A-Za-z0-9_-]/.test(character) ? character : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return token;
}

/** The subject on which nodes with a member of a hub, group or user listen. A connection has none: see `nodeSubject`. */
export function memberSubject(prefix: string, target: Target & { kind: "hub" | "group" | "user" }): string {
  const hub = encodeToken(hubKey(target.hub));
  return target.kind === "hub" ? `${prefix}.hub.${hub}` : `${prefix}.${target.kind}.${hub}.${encodeToken(target.name)}`;
}

/** The subject on which one node listens. */
export function nodeSubject(prefix: string, nodeId: string): string {
  return `${prefix}.node.${nodeId}`;
}

/** The subject on which every node says that it is there. */
export function beatSubject(prefix: string): string {
  return `${prefix}.beat`;
}

/** The subject on which one node hears the answers to its hello. */
export function answerSubject(prefix: string, nodeId: string): string {
  return `${prefix}.here.${nodeId}`;
}

/** The subject under which one node's part of the replica is stored. */
export function journalSubject(prefix: string, nodeId: string): string {
  return `${prefix}.journal.${nodeId}`;
}
