import type { Reply, Request } from "./operation.ts";

/** What a thread tells besides its answers. */
export interface JournalThreadEvents {
  damaged(movedTo: string, reason: string): void;
  /** The thread ended unexpectedly; pending requests are rejected. Called once, and not after `end`. */
  died(reason: string): void;
}

type ThreadResult = Exclude<Reply, readonly ["damaged", ...unknown[]]>;

/**
 * The thread that does the journal's disk work, as the event loop sees it: requests in, answers out.
 *
 * Order: one request at a time; its answer comes before the next may be asked.
 */
export class JournalThread {
  readonly #worker: Worker;
  readonly #events: JournalThreadEvents;
  #asked: { resolve(answer: ThreadResult): void; reject(error: Error): void } | null = null;
  #ended = false;

  constructor(events: JournalThreadEvents) {
    this.#events = events;
    // Of use to the whole process only: a smaller heap, since it holds one batch at a time.
    this.#worker = new Worker(new URL("./sqlite-worker.ts", import.meta.url), { smol: true });
    this.#worker.onmessage = (event: MessageEvent<Reply>) => this.#hear(event.data);
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#die(event.message);
    });
    this.#worker.addEventListener("close", () => this.#die("it ended unexpectedly"));
  }

  /** Rejects where the thread dies before it answers. */
  ask<Name extends ThreadResult[0]>(request: Request): Promise<Extract<ThreadResult, readonly [Name, ...unknown[]]>>;
  ask(request: Request): Promise<ThreadResult> {
    const { promise, resolve, reject } = Promise.withResolvers<ThreadResult>();
    if (this.#ended) reject(new Error("the journal's thread has ended"));
    else if (this.#asked !== null) reject(new Error("the journal's thread was asked two things at once"));
    else {
      this.#asked = { resolve, reject };
      this.#worker.postMessage(request);
    }
    return promise;
  }

  /** Ends the thread, at any moment of its work; open requests are rejected. May be called twice. */
  end(): void {
    this.#stop("the journal's thread was ended");
  }

  #hear(reply: Reply): void {
    if (reply[0] === "damaged") {
      this.#events.damaged(reply[1], reply[2]);
      return;
    }
    const asked = this.#asked;
    this.#asked = null;
    asked?.resolve(reply);
  }

  #die(reason: string): void {
    if (this.#ended) return;
    const sentence = `the journal's thread died: ${reason}`;
    this.#stop(sentence);
    this.#events.died(sentence);
  }

  #stop(sentence: string): void {
    this.#ended = true;
    // One that hangs in a call of the system's ends only when that does, and the process need not wait for it.
    this.#worker.unref();
    this.#worker.terminate();
    this.#asked?.reject(new Error(sentence));
    this.#asked = null;
  }
}
