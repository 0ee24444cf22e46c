import type { CloseCategory } from "../protocol/close-causes.ts";
import type { EventName } from "../protocol/events.ts";
import type { Notice, Report } from "../protocol/notices.ts";
import type { AnswerHead, CallFailure } from "./ports/upstream.ts";

/** How a call ended: the class of its answer's status, or why it has no answer. */
export type CallResult = "2xx" | "3xx" | "4xx" | "5xx" | "other" | Exclude<CallFailure["kind"], "unrouted">;

/** By the first digit of a status. A final 101, or a status that HTTP does not know, is `other`. */
const STATUS_CLASSES: readonly CallResult[] = ["other", "other", "2xx", "3xx", "4xx", "5xx"];

type Counts<Name extends string> = { [Each in Name]: number };
type RareCounts<Name extends string> = { [Each in Name]?: number };

function callCounts(): Counts<CallResult> {
  return { "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0, other: 0, "not-sent": 0, unknown: 0, refused: 0 };
}

/**
 * What has happened since the start of the process, as plain numbers that only grow. The part where something happens counts it up;
 * no listener is called, and no object is made. The admin route `GET /stats` reads them when it is asked.
 *
 * Shape:  bytes are those of WebSocket payloads without compression; of a text that is sent each character counts as one. What is
 *         worth a notice is counted by `countNotices`.
 * Source: decision 0048.
 */
export class Meters {
  /** Whole messages of clients. */
  messagesReceived = 0;
  messageBytesReceived = 0;
  /** Messages to clients; one for a hub or group counts once for each client that gets it. */
  messagesSent = 0;
  messageBytesSent = 0;
  /** By event. A repeat on another socket is no further call. */
  readonly calls: Readonly<Record<EventName, Counts<CallResult>>> = {
    connect: callCounts(),
    message: callCounts(),
    disconnect: callCounts(),
  };
  /** Calls whose request was written a second time, since its socket had died. */
  staleSocketRepeats = 0;
  /** Messages that were posted once more after a pause, since provably nothing of them was sent. */
  messageRepeats = 0;
  /** Connections that ended, by the reason. */
  readonly connectionsClosed: RareCounts<CloseCategory> = {};
  /** Handshakes that were refused, by the error's code. */
  readonly connectionsRefused: RareCounts<string> = {};
  /** Events that a backend does not get, by the event. Dead letters count in `notices` only: an operator may still send them. */
  readonly eventsUndelivered: Counts<EventName> = { connect: 0, message: 0, disconnect: 0 };
  /** Messages of other nodes. */
  nodeMessagesDropped = 0;
  /** Every kind of notice that there was. */
  readonly notices: RareCounts<Notice["kind"]> = {};

  /** A message of a client has arrived. */
  received(byteCount: number): void {
    this.messagesReceived++;
    this.messageBytesReceived += byteCount;
  }

  /** A message goes to so many clients. */
  sent(byteCount: number, receivers: number): void {
    this.messagesSent += receivers;
    this.messageBytesSent += byteCount * receivers;
  }

  /** A call has ended. */
  called(
    event: EventName,
    outcome: Pick<AnswerHead, "kind" | "status"> | Exclude<CallFailure, { kind: "unrouted" }>,
  ): void {
    const counts = this.calls[event];
    if (outcome.kind === "answer") counts[STATUS_CLASSES[Math.floor(outcome.status / 100)] ?? "other"]++;
    else counts[outcome.kind]++;
  }
}

/** A listener that counts notices. */
export function countNotices(meters: Meters): Report {
  return (notice) => {
    countUp(meters.notices, notice.kind);
    switch (notice.kind) {
      case "connection-closed":
        countUp(meters.connectionsClosed, notice.end.category);
        return;
      case "connection-refused":
        countUp(meters.connectionsRefused, notice.code);
        return;
      case "undelivered":
        meters.eventsUndelivered[notice.event] += notice.count;
        return;
      case "node-messages-dropped":
        meters.nodeMessagesDropped += notice.count;
    }
  };
}

function countUp<Name extends string>(counts: RareCounts<Name>, name: Name): void {
  counts[name] = (counts[name] ?? 0) + 1;
}
