/** Characters of base64url that name a node: 48 random bits. */
export const NODE_ID_LENGTH = 8;

/** Characters of a connection's own part: 128 random bits. */
const OWN_LENGTH = 22;

/**
 * The node that a connection's id names; null for an id that no node of a cluster made.
 *
 * Shape:  node id, then 22 random characters, all of `[A-Za-z0-9_-]`.
 * Source: spec section 1: "in a cluster its prefix names the node".
 */
export function nodeOf(connectionId: string): string | null {
  if (connectionId.length !== NODE_ID_LENGTH + OWN_LENGTH || !/^[A-Za-z0-9_-]+$/.test(connectionId)) return null;
  return connectionId.slice(0, NODE_ID_LENGTH);
}
