/** Characters of base64url that name a node: 48 random bits. */
export const NODE_ID_LENGTH = 8;

/** The form and length of ids of nodes and connections. */
const ID = /^[A-Za-z0-9_-]{1,64}$/;

/** Characters of a connection's own part: 128 random bits. */
const OWN_LENGTH = 22;

/**
 * The node that a connection's id names; null for an id that no node of a cluster made.
 *
 * Shape:  node id, then 22 random characters, all of `[A-Za-z0-9_-]`.
 * Source: PROTOCOL.md, "Words".
 */
export function nodeOf(connectionId: string): string | null {
  if (connectionId.length !== NODE_ID_LENGTH + OWN_LENGTH || !ID.test(connectionId)) return null;
  return connectionId.slice(0, NODE_ID_LENGTH);
}

/** Whether a text may be the id of a connection: another text need not be looked up. */
export function isConnectionId(text: string): boolean {
  return ID.test(text);
}

/** Whether a text may be the name of a node. */
export function isNodeId(text: string): boolean {
  return ID.test(text);
}
