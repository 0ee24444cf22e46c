import {
  decodeHeaderValue,
  type HeaderLines,
  headerValues,
  isAscii,
  splitList,
  trimOptionalSpace,
} from "../../protocol/headers.ts";
import { isName } from "../../protocol/names.ts";
import { ownCopy } from "../../protocol/own-copy.ts";

/** What the headers of a 2xx answer to the connect event say, or what is wrong with them in a sentence. */
export type ConnectHeaders =
  | {
      readonly kind: "reply";
      /** Null where the answer names no user; then the token's counts. */
      readonly userId: string | null;
      /** Its bytes were no UTF-8, so they were read as Latin-1. */
      readonly isLatin1User?: true;
      readonly groups: readonly string[];
      readonly subprotocol: string | null;
    }
  | {
      readonly kind: "malformed";
      readonly sentence: string;
      /** The user that the answer names, for the disconnect event; null where it names none or that is what is wrong. */
      readonly userId: string | null;
      readonly isLatin1User?: true;
    };

/**
 * The subprotocols that a client offers, from its `Sec-WebSocket-Protocol` as it arrived, one char a byte. Each is decoded for itself,
 * since one may be UTF-8 and the next Latin-1. Source: RFC 6455, section 4.2.1.
 */
export function parseSubprotocols(header: string | null): string[] {
  return splitList(header ?? "").map(decodeHeaderValue);
}

/**
 * Reads the headers of a 2xx answer to the connect event.
 *
 * Shape:  header values have one char a byte. `offered` is what the client offered.
 * Source: the seed, "Connect", "Response Headers".
 */
export function parseConnectHeaders(headers: HeaderLines, offered: readonly string[]): ConnectHeaders {
  const userIds = new Set(values(headers, "x-asrs-user-id").filter((id) => id !== ""));
  if (userIds.size > 1) return malformed("the upstream answered with two different X-ASRS-User-Id");
  const [userId = null] = userIds;
  if (userId !== null && !isName(userId))
    return malformed("the upstream answered with an X-ASRS-User-Id that is no user id");
  const isLatin1 = userId !== null && isReadAsLatin1(headers, userId);
  const user = { userId: userId && ownCopy(userId), ...(isLatin1 && { isLatin1User: true as const }) };

  const groups = new Set(values(headers, "x-asrs-connection-group").flatMap(splitList));
  for (const group of groups) {
    if (!isName(group))
      return malformed("the upstream answered with an X-ASRS-Connection-Group that is no group's name", user);
  }

  const chosen = values(headers, "sec-websocket-protocol");
  if (chosen.length > 1) return malformed("the upstream answered with more than one Sec-WebSocket-Protocol", user);
  const subprotocol = chosen[0] ?? null;
  if (subprotocol === "") return malformed("the upstream answered with a blank Sec-WebSocket-Protocol", user);
  if (subprotocol !== null && !offered.includes(subprotocol)) {
    return malformed("the upstream answered with a Sec-WebSocket-Protocol that the client did not offer", user);
  }
  // The connection keeps these for as long as it lives.
  return { kind: "reply", ...user, groups: [...groups].map(ownCopy), subprotocol };
}

function values(headers: HeaderLines, name: string): string[] {
  return headerValues(headers, name).map(trimOptionalSpace).map(decodeHeaderValue);
}

/** Read as UTF-8, bytes above 0x7F would have become other characters. */
function isReadAsLatin1(headers: HeaderLines, userId: string): boolean {
  return !isAscii(userId) && headerValues(headers, "x-asrs-user-id").map(trimOptionalSpace).includes(userId);
}

const NOBODY = { userId: null };

function malformed(
  sentence: string,
  user: { readonly userId: string | null; readonly isLatin1User?: true } = NOBODY,
): ConnectHeaders {
  return { kind: "malformed", sentence, ...user };
}
