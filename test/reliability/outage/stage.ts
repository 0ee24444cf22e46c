import { DEADLINE_MS, within } from "../../support/deadline.ts";
import { RawWebSocket } from "../../support/raw-websocket.ts";
import { type Call, LedgerBackend, orderly, type Reply } from "../support/ledger-backend.ts";
import { ProbedGateway } from "../support/probed-gateway.ts";

/** Accepts, echoes, acknowledges. */
export function healthy({ event, body }: Call): Reply {
  if (event === "connect") return orderly(200, ["X-ASRS-User-Id: alice"]);
  return event === "message" ? orderly(200, ["Content-Type: text/plain"], body) : orderly(204);
}

/** Who was let in, and whose disconnect was answered with 2xx: one that was only received may come again. */
export class Tally {
  readonly #accepted = new Set<string>();
  readonly #delivered = new Map<string, number>();
  readonly #onChange = new Set<() => void>();

  /** To be called with each call that is answered as `healthy` does. */
  take({ event, connectionId }: Call): void {
    if (event === "connect") this.#accepted.add(connectionId);
    if (event === "disconnect") this.#delivered.set(connectionId, (this.#delivered.get(connectionId) ?? 0) + 1);
    for (const look of this.#onChange) look();
  }

  get acceptedCount(): number {
    return this.#accepted.size;
  }

  /** Of the accepted. */
  get deliveredCount(): number {
    return this.acceptedCount - this.owed;
  }

  /** Accepted, and no disconnect delivered. */
  get owed(): number {
    return [...this.#accepted].filter((id) => !this.#delivered.has(id)).length;
  }

  get duplicates(): number {
    return [...this.#delivered.values()].reduce((sum, count) => sum + count - 1, 0);
  }

  /** Waits until this many are delivered. */
  async until(count: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = () => {
      if (this.deliveredCount >= count) resolve();
    };
    this.#onChange.add(look);
    look();
    await within(promise, `${count} disconnects`, 4 * DEADLINE_MS).finally(() => this.#onChange.delete(look));
  }

  async settled(): Promise<void> {
    await this.until(this.acceptedCount);
  }
}

/** A gateway with two backends: the one of the hub `outage` can go away, the one of the hub `other` stays well. */
export class OutageStage {
  readonly gateway: ProbedGateway;
  readonly tally: Tally;
  readonly other: LedgerBackend;
  readonly #port: number;
  #backend: LedgerBackend | null;

  private constructor(gateway: ProbedGateway, backend: LedgerBackend, other: LedgerBackend, tally: Tally) {
    this.gateway = gateway;
    this.tally = tally;
    this.other = other;
    this.#port = backend.port;
    this.#backend = backend;
  }

  /** `entry` adds to the entry of the backend that goes away. */
  static async start(entry: Readonly<Record<string, unknown>>): Promise<OutageStage> {
    const tally = new Tally();
    const backend = await LedgerBackend.start({ respond: (call) => welcome(tally, call) });
    const other = await LedgerBackend.start({ respond: healthy });
    const upstreams = [
      { hubPattern: "outage", urlTemplate: backend.urlTemplate, ...entry },
      { hubPattern: "other", urlTemplate: other.urlTemplate },
    ];
    const gateway = await ProbedGateway.start({
      upstreams,
      // All clients of the test come from one address, and all at once.
      limits: { maxPendingUpgradesPerAddress: 1024 },
      shutdown: { spreadMs: 0 },
    });
    return new OutageStage(gateway, backend, other, tally);
  }

  open(hub: string): Promise<RawWebSocket> {
    return RawWebSocket.open({ port: this.gateway.port, path: `/ws/client/hubs/${hub}` });
  }

  /** The status that a new client gets, and what it is told to wait. */
  async knock(): Promise<{ status: number; retryAfter: string }> {
    using client = await RawWebSocket.request({ port: this.gateway.port, path: "/ws/client/hubs/outage" });
    const { status, head } = await client.answer();
    return { status, retryAfter: head.all("retry-after").join() };
  }

  /** The backend answers like this from now on; null: it is gone. */
  async fail(respond: ((call: Call) => Reply | Promise<Reply>) | null): Promise<void> {
    if (respond === null) {
      await this.#backend?.stop();
      this.#backend = null;
    } else if (this.#backend !== null) {
      this.#backend.respond = respond;
    }
  }

  async recover(): Promise<void> {
    this.#backend ??= await LedgerBackend.start({ respond: healthy, port: this.#port });
    this.#backend.respond = (call) => welcome(this.tally, call);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway[Symbol.asyncDispose]();
    await this.#backend?.stop();
    await this.other.stop();
  }
}

function welcome(tally: Tally, call: Call): Reply {
  tally.take(call);
  return healthy(call);
}
