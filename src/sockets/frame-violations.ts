import { CLOSE, type CloseCategory, type ConnectionEnd } from "../protocol/close-causes.ts";

/** Beginnings of the texts with which Bun 1.4 reports a frame it closed for; the client got the code next to them. */
const VIOLATIONS: readonly (readonly [text: string, code: number, category: CloseCategory])[] = [
  ["Received invalid UTF-8", 1007, "frame-violation"],
  ["Received invalid compressed data", 1007, "frame-violation"],
  ["Received too big message", 1009, "message-too-big"],
  ["Received ", 1002, "frame-violation"],
];

/**
 * The cause that really ended a connection, from the code and text of Bun's close handler.
 *
 * Why: for a frame violation Bun sends the client 1002, 1007 or 1009 and tells the handler 1006 and a sentence; for a lost network
 *      it tells 1006 and nothing. `frame-violations.test.ts` fails if a later Bun changes its sentences.
 */
export function closeCauseFromBun(code: number, reason: string): ConnectionEnd {
  if (code !== 1006) return { code, reason, category: "client" };
  const violation = VIOLATIONS.find(([text]) => reason.startsWith(text));
  if (violation === undefined) return CLOSE.networkLost;
  const [, sent, category] = violation;
  return { code: sent, reason, category };
}
