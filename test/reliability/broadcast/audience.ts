import { within } from "../../support/deadline.ts";
import { RestClient } from "../../support/rest-client.ts";
import { LedgerBackend, orderly } from "../support/ledger-backend.ts";
import { ProbedGateway } from "../support/probed-gateway.ts";
import { type Pace, Receiver, stamped } from "./receiver.ts";

/** How many clients are opened at a time. */
const OPENING_AT_ONCE = 50;

/** How often a trickling client reads: up to half a megabyte each time, which is far less than is sent meanwhile. */
const NUDGE_INTERVAL_MS = 5000;

export interface AudienceOptions {
  readonly fast: number;
  readonly slow: number;
  /** The gateway's `limits`. */
  readonly limits: Readonly<Record<string, number>>;
}

/** A gateway, its backend, and clients in one hub, of whom some read slowly; broadcasts to all go through the REST API. */
export class Audience {
  readonly gateway: ProbedGateway;
  readonly backend: LedgerBackend;
  readonly fast: Receiver[] = [];
  readonly slow: Receiver[] = [];
  /** From the call of the API to each delivery to a fast client. Units: ms. */
  readonly latenciesMs: number[] = [];
  readonly #caller: RestClient;
  #sent = 0;
  #wake: (() => void) | null = null;

  private constructor(gateway: ProbedGateway, backend: LedgerBackend, caller: RestClient) {
    this.gateway = gateway;
    this.backend = backend;
    this.#caller = caller;
  }

  static async gather({ fast, slow, limits }: AudienceOptions): Promise<Audience> {
    const backend = await LedgerBackend.start({
      respond: ({ event, header }) => {
        const user = /user=([^&]*)/.exec(header("x-asrs-client-query"))?.[1] ?? "nobody";
        return event === "connect" ? orderly(200, [`X-ASRS-User-Id: ${user}`]) : orderly(204);
      },
    });
    const gateway = await ProbedGateway.start({
      upstreams: [{ urlTemplate: backend.urlTemplate }],
      limits,
      // A client that does not read answers no ping either: it would be cut for that, which is another test's matter.
      websocket: { pingAfterMs: 3_600_000 },
    });
    const audience = new Audience(gateway, backend, await RestClient.dial(gateway.port));
    await audience.#open("fast", fast);
    await audience.#open("mute", Math.ceil(slow / 2));
    await audience.#open("trickle", Math.floor(slow / 2));
    return audience;
  }

  /** Broadcasts one message. Errors: rejects unless the API takes it. */
  async broadcast(byteCount: number): Promise<void> {
    const request = { method: "POST", target: "/ws/api/hubs/chat/messages", type: "text/plain" };
    const answer = await this.#caller.call({ ...request, body: stamped(this.#sent, byteCount) });
    if (answer.status !== 202) throw new Error(`broadcast ${this.#sent}: ${answer.head.firstLine} ${answer.body}`);
    this.#sent++;
  }

  /** Broadcasts at a rate: the next one when its time has come and the one before was answered. */
  async broadcastAtRate(
    count: number,
    { byteCount, perSecond }: { byteCount: number; perSecond: number },
  ): Promise<void> {
    const startedMs = performance.now();
    const nudges = setInterval(() => this.nudge(), NUDGE_INTERVAL_MS);
    for (let i = 0; i < count; i++) {
      // A load has a pace; this is it, no wait for something to happen.
      await Bun.sleep(Math.max(0, startedMs + (i * 1000) / perSecond - performance.now()));
      await this.broadcast(byteCount);
    }
    clearInterval(nudges);
    await this.delivered();
  }

  /** Waits until every fast client has every message. */
  async delivered(): Promise<void> {
    const all = async (): Promise<void> => {
      while (this.latenciesMs.length < this.#sent * this.fast.length) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    };
    await within(all(), `message ${this.#sent - 1} at every fast client`);
  }

  /** Lets each trickling client read a little. */
  nudge(): void {
    for (const receiver of this.slow) receiver.nudge();
  }

  /** How the slow clients ended, as the backend was told: the code and reason of each that has its disconnect. */
  slowEnds(): string[] {
    return [...this.backend.ledger.accounts.values()]
      .filter(({ userId, disconnects }) => /^(?:mute|trickle)/.test(userId) && disconnects > 0)
      .map(({ closeCode, closeReason }) => `${closeCode} ${decodeURIComponent(closeReason)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const receiver of [...this.fast, ...this.slow]) receiver.destroy();
    this.#caller.destroy();
    await this.gateway[Symbol.asyncDispose]();
    await this.backend.stop();
  }

  async #open(pace: Pace, count: number): Promise<void> {
    const onMessage = (latencyMs: number): void => {
      if (pace !== "fast") return;
      this.latenciesMs.push(latencyMs);
      this.#wake?.();
    };
    for (let from = 0; from < count; from += OPENING_AT_ONCE) {
      const users = Array.from({ length: Math.min(OPENING_AT_ONCE, count - from) }, (_, i) => `${pace}${from + i}`);
      const opened = users.map((user) => Receiver.open(this.gateway.port, { pace, user, onMessage }));
      (pace === "fast" ? this.fast : this.slow).push(...(await Promise.all(opened)));
    }
  }
}

/** The value below which the given share of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
