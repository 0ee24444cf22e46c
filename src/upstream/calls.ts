import type { MessageCall } from "../core/message-call.ts";
import type { Meters } from "../core/meters.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { ConnectOutcome, NotifyOutcome, ReplyListener, WaitingClient } from "../core/ports/upstream.ts";
import type { Dialects } from "../protocol/dialect.ts";
import { dialectOf } from "../protocol/dialect-names.ts";
import type { ConnectEvent, DisconnectEvent, MessageEvent, UpstreamEvent } from "../protocol/events.ts";
import { Call, type CallListener, type CallOutcome } from "./call.ts";
import { readConnectOutcome } from "./connect-outcome.ts";
import type { Deadlines, Waiting } from "./deadlines.ts";
import type { Entries } from "./entries.ts";
import type { Entry } from "./entry.ts";
import { MessagePost, type PostContext, REPEAT_AFTER_MS } from "./message-post.ts";

export interface CallsOptions {
  readonly entries: Entries;
  readonly dialects: Dialects;
  readonly deadlines: Deadlines;
  readonly clock: Clock;
  readonly meters: Meters;
  /** Pauses before a message that was not sent is posted again; left out: `REPEAT_AFTER_MS`. */
  readonly repeatAfterMs?: readonly number[];
}

/** The calls of all events: each goes to the entry that takes its event, and what comes back is read in the connection's dialect. */
export class Calls implements PostContext {
  readonly repeatAfterMs: readonly number[];
  readonly meters: Meters;
  readonly #entries: Entries;
  readonly #dialects: Dialects;
  readonly #deadlines: Deadlines;
  readonly #clock: Clock;
  readonly #leave: (entry: Entry) => void;
  isAbandoning = false;

  constructor({ entries, dialects, deadlines, clock, meters, repeatAfterMs = REPEAT_AFTER_MS }: CallsOptions) {
    this.meters = meters;
    this.#entries = entries;
    this.#dialects = dialects;
    this.#deadlines = deadlines;
    this.#clock = clock;
    this.repeatAfterMs = repeatAfterMs;
    this.#leave = (entry) => entries.leave(entry);
  }

  connect(event: ConnectEvent, client: WaitingClient | null): Promise<ConnectOutcome> {
    const dialect = this.#dialects[dialectOf(event.facts)];
    const asked = { userId: event.facts.userId, subprotocols: event.subprotocols };
    return new Promise((resolve, reject) => {
      const onOutcome = (outcome: CallOutcome, { passedNames }: Entry) => {
        try {
          resolve(readConnectOutcome(outcome, dialect, asked, passedNames));
        } catch (bug) {
          reject(bug);
        }
      };
      const call = this.begin(event, { client, onOutcome, onFault: reject });
      if (call === null) resolve({ kind: "unrouted", reply: dialect.readConnect(null, asked) });
    });
  }

  post(event: MessageEvent, listener: ReplyListener): MessageCall | null {
    const post = new MessagePost(event, listener, this);
    if (post.start()) return post;
    queueMicrotask(() => listener.onFailure({ kind: "unrouted" }, null));
    return null;
  }

  notify(event: DisconnectEvent): Promise<NotifyOutcome> {
    return new Promise((resolve, reject) => {
      if (this.begin(event, { onOutcome: resolve, onFault: reject }) === null) resolve({ kind: "unrouted" });
    });
  }

  abandonMessages(): void {
    this.isAbandoning = true;
    const all = this.#deadlines.all();
    const calls = all.filter((waiting) => waiting instanceof Call).filter(({ event }) => event.name === "message");
    // Waiting calls first: otherwise a place that another call gives back would send them.
    for (const call of calls) if (call.isWaiting) call.abandon();
    for (const call of calls) call.abandon();
    for (const post of all) if (post instanceof MessagePost) post.abandon();
  }

  begin(event: UpstreamEvent, listener: CallListener): Call | null {
    const entry = this.#entries.find(event.facts.hub, dialectOf(event.facts), event.name);
    if (entry === null) return null;
    this.#entries.enter(entry);
    const call = new Call(entry, event, listener, this.#leave);
    call.start();
    return call;
  }

  now(): number {
    return this.#clock.now();
  }

  wait(waiting: Waiting): void {
    this.#deadlines.add(waiting);
  }

  stopWaiting(waiting: Waiting): void {
    this.#deadlines.remove(waiting);
  }
}
