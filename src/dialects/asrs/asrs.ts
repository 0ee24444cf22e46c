import type { ConnectAnswer, ConnectAsked, ConnectReply, Dialect, NamedUser } from "../../protocol/dialect.ts";
import { refusal } from "../../protocol/error-codes.ts";
import { type ConnectHeaders, parseConnectHeaders, parseSubprotocols } from "./connect-headers.ts";
import { formatHeaders, formatStart } from "./headers.ts";
import { readPayload } from "./message-reply.ts";

const NO_BYTES = new Uint8Array();

/** The protocol of Azure SignalR Service's serverless WebSockets of 2020. Source: the seed. */
export const asrs: Dialect = {
  events: { connect: true, message: true, disconnect: true },
  form: (event, context) => ({ headers: formatHeaders(event, context), body: NO_BYTES }),
  shapeOf: ({ payloadType }) => payloadType,
  start: formatStart,
  tail: () => "",
  readConnect,
  readReply: (content) => ({ payload: readPayload(content) }),
};

/** Every connection has a user: the answer's, else the token's. Source: the seed, "Connect". */
function readConnect(answer: ConnectAnswer | null, asked: ConnectAsked): ConnectReply {
  const read = answer === null ? null : parseConnectHeaders(answer.headers, parseSubprotocols(asked.subprotocols));
  const user = userOf(read, asked);
  if (read?.kind === "malformed") {
    return { kind: "refuse", refusal: refusal("upstream_failed", read.sentence, "upstream"), ...user };
  }
  if (user.userId === null) {
    const refused = refusal("user_required", "neither the token nor the upstream named a user", "X-ASRS-User-Id");
    return { kind: "refuse", refusal: refused, ...user };
  }
  const { groups = [], subprotocol = null } = read ?? {};
  const content = answer?.content ?? null;
  return { kind: "accept", ...user, groups, subprotocol, payload: content === null ? null : readPayload(content) };
}

function userOf(read: ConnectHeaders | null, asked: ConnectAsked): NamedUser {
  const named = read?.userId ?? null;
  if (read === null || named === null) return { userId: asked.userId };
  return read.isLatin1User === true ? { userId: named, isLatin1User: true } : { userId: named };
}
