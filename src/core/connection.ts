import type { ConnectionEnd } from "../protocol/close-causes.ts";
import type { ConnectionFacts, RareFacts } from "../protocol/facts.ts";
import type { GroupNames } from "./group-names.ts";
import type { HeldPayloads } from "./held-payloads.ts";
import type { Inbox } from "./inbox.ts";
import type { MessageInFlight } from "./message-call.ts";
import type { ClientSocket } from "./ports/client-socket.ts";
import type { SendRates } from "./send-rates.ts";

/**
 * One client from its accepted connect event to its disconnect event.
 *
 *     asked ── 2xx ──▶ arriving ── opened ──▶ live ── closed ──▶ draining ──▶ departed
 *                         └────── handshake failed ───────────────────────────▲
 *
 * A plain record: each field says which part changes it. It is the `facts` of its own events, so nothing is copied per
 * event and the disconnect says what the connection had last.
 */
export class Connection implements ConnectionFacts {
  readonly connectionId: string;
  /** Set by the registry to one string that all connections of a hub share. */
  hub: string;
  readonly claims: string;
  readonly clientQuery: string;
  readonly forwardedFor: string;

  /** Set by admission from the token, then from the connect answer. */
  userId: string | null;
  /** Absent for most; the records of the others have one field more. Set by admission, with `userId`. */
  declare rare?: RareFacts;
  /** Null while it is in none. Set by admission before the connection is registered, then by the registry. */
  groups: GroupNames | null = null;

  /** Payloads that were sent to it before its socket opened; null while none waits. Set by arrivals. */
  held: HeldPayloads | null = null;

  /** The open socket; null before it opened and after it closed. Set by lifecycle. */
  socket: ClientSocket | null = null;
  /** How it ended or is ending; the first cause stays. Set by lifecycle, and by arrivals where too much waits. */
  end: ConnectionEnd | null = null;

  /** The cause with which it is closed once the call in flight is over; null where none is due. Set by commands. */
  closeAfterCall: ConnectionEnd | null = null;
  /** Another node has taken over this node's lease, and sends its disconnect event: no further event is posted for it. Set by drain. */
  isDisowned = false;

  /** The message whose call is under way. Set by dispatch, and by commands when it is over. */
  inFlight: MessageInFlight | null = null;
  /** Bytes of its messages, the one in flight and those behind it. Set by pressure, told by commands and dispatch. */
  heldBytes = 0;
  /** The commands behind the one in flight; null while none waits. Set by commands. */
  inbox: Inbox | null = null;
  /** Number of message events so far, for their ids. Set by dispatch. */
  messageCount = 0;
  /** When queued messages stop being posted; set by commands once the socket has closed. */
  drainUntil = 0;

  /** What it may still send; null while it has sent nothing that counts. Set by lifecycle. */
  rates: SendRates | null = null;

  /** Bytes of its whole messages and control frames, with their heads and those of TLS, and the liveness tick of the last message. Set by lifecycle. */
  frameBytes = 0;
  messageAtTick = 0;

  /** The liveness ticks of the last received message or pong, and of the ping that has no answer yet. Set by liveness. */
  heardAtTick = 0;
  pingedAtTick = 0;

  /** Its place on the timing wheel, and its neighbours there. Set by the wheel; -1 while it is not on it. */
  wheelBucket = -1;
  wheelBefore: Connection | null = null;
  wheelBehind: Connection | null = null;

  constructor(facts: ConnectionFacts) {
    this.connectionId = facts.connectionId;
    this.hub = facts.hub;
    this.userId = facts.userId;
    this.claims = facts.claims;
    this.clientQuery = facts.clientQuery;
    this.forwardedFor = facts.forwardedFor;
    if (facts.rare !== undefined) this.rare = facts.rare;
  }
}
