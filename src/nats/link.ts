import { setTimeout as sleep } from "node:timers/promises";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import type { Renewal } from "../config/tls-files.ts";
import type { Report } from "../protocol/notices.ts";
import {
  CONNECT_TIMEOUT_MS,
  type ConnectOptions,
  connectOptions,
  type NatsOptions,
  RECONNECT_JITTER_MS,
  RECONNECT_WAIT_MS,
} from "./connect-options.ts";
import { greeted } from "./greeting.ts";
import { LoginFiles } from "./login-files.ts";
import { Move, type Passenger } from "./move.ts";

/** Refusals that come while it is up, one for each subject that the account may not use, are told of once in so long. */
const REFUSED_EVERY_MS = 10_000;

/** How long the connection that was moved from is kept: answers to what was asked over it still come. */
const KEEP_FIRST_MS = 2000;

/** How long the end waits for what is under way to reach the server. */
const CLOSE_LIMIT_MS = 1000;

/**
 * The one connection to NATS that all parts of a node share; made again until the node stops.
 *
 * A server in lame-duck mode is left over a second connection, which is open before the first one closes: see `Move`.
 *
 * Order:  listeners hear of every change in the order in which they were added; when they hear `up`, the client has asked
 *         the server for all subscriptions again.
 * Errors: none: what cannot be reached now is tried again. Throws only where a file cannot be read.
 */
export class NatsLink {
  readonly #servers: readonly string[];
  readonly #files: LoginFiles;
  readonly #report: Report;
  readonly #options: ConnectOptions;
  readonly #listeners: ((isUp: boolean) => void)[] = [];
  readonly #passengers: Passenger[] = [];
  #move: Move | null = null;
  /** A connection to a server in lame-duck mode. */
  #leaving: NatsConnection | null = null;
  /** The connection that was moved from, until it is closed. */
  #left: NatsConnection | null = null;
  /** Messages that are published while the connections change places. */
  #held: { readonly subject: string; readonly payload: string | Uint8Array }[] | null = null;
  #changing: PromiseWithResolvers<void> | null = null;
  /** Ends with the connection for good. */
  #following: Promise<void> = Promise.resolve();
  #connection: NatsConnection | null = null;
  #isUp = false;
  readonly #end = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** The last refusal while it was away: each try may be refused again. */
  #refusal: string | null = null;
  #mayTellRefusalAtMs = Number.NEGATIVE_INFINITY;
  #unsaidCount = 0;
  #stopping: Promise<void> | null = null;

  private constructor(options: NatsOptions, report: Report) {
    this.#servers = options.servers;
    this.#files = new LoginFiles(options);
    this.#options = connectOptions(options, this.#files);
    this.#report = report;
  }

  /** Returns at once; the first connection may come much later. */
  static start(options: NatsOptions, report: Report): NatsLink {
    const link = new NatsLink(options, report);
    link.#running = link.#run();
    return link;
  }

  /**
   * Null until there has been one; another one after a move. While it is lost, what is published through it waits in memory: see `isUp`.
   */
  get connection(): NatsConnection | null {
    return this.#connection;
  }

  /** False as soon as a loss is noticed: at once, or after a few seconds where the server went silent. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /** Reads the files for TLS and login again, for the next connection; this one stays. Files that cannot be used change nothing. */
  renewCertificates(): Renewal[] {
    return this.#files.renew();
  }

  /** Calls back at every change from now on; at once where it is up. */
  onChange(listener: (isUp: boolean) => void): void {
    this.#listeners.push(listener);
    if (this.#isUp) listener(true);
  }

  /** Takes part in every move to another connection. */
  onMove(passenger: Passenger): void {
    this.#passengers.push(passenger);
  }

  /** True for a round trip in a move, while what is published waits. */
  get isChanging(): boolean {
    return this.#changing !== null;
  }

  /** Resolves when what waited has gone out. */
  async whenChanged(): Promise<void> {
    await this.#changing?.promise;
  }

  /**
   * Publishes in the order of the calls, over a move too: what one connection has taken does not overtake what the other has.
   *
   * Errors: throws where the connection is closed.
   */
  publish(subject: string, payload: string | Uint8Array): void {
    if (this.#held !== null) this.#held.push({ subject, payload });
    else this.#connection?.publish(subject, payload);
  }

  /** Published messages go out first. Nothing is tried any more when it resolves. May be called twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#end.abort();
    const connection = this.#connection;
    const limit = new Promise((resolve) => setTimeout(resolve, CLOSE_LIMIT_MS).unref());
    const wasUp = this.#isUp;
    this.#isUp = false;
    if (wasUp) await Promise.race([connection?.flush().catch(() => null), limit]);
    this.#move?.fail("the link is stopped");
    await Promise.race([Promise.all([connection, this.#left].map((one) => one?.close().catch(() => null))), limit]);
    await Promise.race([this.#running.catch(() => null), limit]);
  }

  async #run(): Promise<void> {
    let isSaid = false;
    for (;;) {
      const connection = await this.#connectFirst(isSaid);
      if (connection === null) return;
      if (this.#end.signal.aborted) {
        await connection.close();
        return;
      }
      this.#connection = connection;
      this.#following = this.#follow(connection);
      this.#changed(true, connection.getServer());
      await this.#followAll();
      // The client has given up, which it should not: with another one it goes on.
      this.#changed(false, "the connection was closed");
      isSaid = true;
      await this.#pause();
    }
  }

  /** Resolves when a connection is closed for good that was not moved from. */
  async #followAll(): Promise<void> {
    for (;;) {
      const following = this.#following;
      await following;
      if (following === this.#following) return;
    }
  }

  /** Tried by hand, since the client's own first try gives up where the server refuses it. Null where the end came first. */
  async #connectFirst(isSaid: boolean): Promise<NatsConnection | null> {
    const { signal } = this.#end;
    for (let isQuiet = isSaid; !signal.aborted; isQuiet = true) {
      try {
        await greeted(this.#servers, CONNECT_TIMEOUT_MS, signal);
        return await connect(this.#options);
      } catch (error) {
        const cause = error instanceof Error ? error.message : String(error);
        if (!isQuiet && !signal.aborted) this.#report({ kind: "nats-down", cause });
        await this.#pause();
      }
    }
    return null;
  }

  /** Ends early with the end of it all. */
  async #pause(): Promise<void> {
    const waitMs = RECONNECT_WAIT_MS + Math.random() * RECONNECT_JITTER_MS;
    await sleep(waitMs, undefined, { signal: this.#end.signal }).catch(() => {});
  }

  /** Resolves when the connection is closed for good. */
  async #follow(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      switch (status.type) {
        case "disconnect":
          this.#lost(connection);
          break;
        case "reconnect":
          if (connection === this.#connection) this.#changed(true, status.server);
          break;
        case "ldm":
          if (connection === this.#move?.next) this.#move.fail("the other server is in lame-duck mode too");
          else if (connection === this.#connection) void this.#leave(connection);
          break;
        case "error":
          this.#refused(status.error.message);
          break;
      }
    }
  }

  #lost(connection: NatsConnection): void {
    if (connection === this.#move?.next) this.#move.fail("the second connection was lost");
    else if (connection === this.#connection && this.#move?.hurry() !== true) {
      this.#move?.fail("the first connection was lost");
      this.#changed(false, "the connection was lost");
    }
  }

  /**
   * The server is in lame-duck mode: it will end, and closes its connections one after the other within minutes. The link moves to
   * another one at once, where there is any.
   */
  async #leave(first: NatsConnection): Promise<void> {
    const others = new Set([...this.#servers, ...(first.info?.connect_urls ?? [])].map(withoutScheme));
    const server = first.getServer();
    others.delete(withoutScheme(server));
    if (others.size === 0 || this.#leaving === first) return;
    this.#leaving = first;
    const isThere = () => first === this.#connection && this.#isUp && first.getServer() === server;
    while (isThere() && !this.#end.signal.aborted) {
      try {
        await this.#moveTo(first, await this.#connectBesides(first, [...others]));
      } catch {
        // Until another one is there this one is better than none.
        await this.#pause();
      }
    }
    if (this.#leaving === first) this.#leaving = null;
  }

  /** A second connection, to another server. Errors: rejects where none is reached. */
  async #connectBesides(first: NatsConnection, others: readonly string[]): Promise<NatsConnection> {
    await greeted(others, CONNECT_TIMEOUT_MS, this.#end.signal);
    // The server that is left comes last: it will be back, and is to be known then.
    const servers = [...others.toSorted(() => Math.random() - 0.5), first.getServer()];
    const next = await connect({ ...this.#options, servers, noRandomize: true });
    if (next.info?.server_id !== first.info?.server_id && next.info?.ldm !== true) return next;
    await next.close();
    throw new Error("no other server was reached");
  }

  async #moveTo(first: NatsConnection, next: NatsConnection): Promise<void> {
    const move = new Move(first, next, this.#passengers);
    this.#move = move;
    const following = this.#follow(next);
    try {
      this.#end.signal.throwIfAborted();
      await move.overlap();
      if (first !== this.#connection || !this.#isUp || this.#end.signal.aborted) throw new Error("the link is down");
      this.#held = [];
      this.#changing = Promise.withResolvers();
      await move.leave();
      this.#connection = next;
      this.#following = following;
      move.moved();
      this.#report({ kind: "nats-up", server: next.getServer() });
      this.#left = first;
      setTimeout(() => first.close().catch(() => {}), KEEP_FIRST_MS).unref();
      if (move.hasFailed) await this.#startAnew(next);
    } catch (error) {
      move.abandon();
      await next.close();
      throw error;
    } finally {
      this.#move = null;
      this.#release();
    }
  }

  /** It was lost in the moment of the change, and may be back. */
  async #startAnew(connection: NatsConnection): Promise<void> {
    this.#changed(false, "the connection was lost");
    await connection.reconnect().catch(() => {});
  }

  /** Messages that waited for the change go out. */
  #release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const { subject, payload } of held) {
      if (this.#connection?.isClosed() === false) this.#connection.publish(subject, payload);
    }
    this.#changing?.resolve();
    this.#changing = null;
  }

  #refused(cause: string): void {
    if (!this.#isUp && cause === this.#refusal) return;
    if (!this.#isUp) this.#refusal = cause;
    const now = performance.now();
    if (this.#isUp && now < this.#mayTellRefusalAtMs) {
      this.#unsaidCount++;
      return;
    }
    this.#report({ kind: "nats-refused", cause, unsaidCount: this.#unsaidCount });
    this.#unsaidCount = 0;
    this.#mayTellRefusalAtMs = now + REFUSED_EVERY_MS;
  }

  #changed(isUp: boolean, detail: string): void {
    if (isUp === this.#isUp || this.#end.signal.aborted) return;
    this.#isUp = isUp;
    this.#refusal = null;
    this.#report(isUp ? { kind: "nats-up", server: detail } : { kind: "nats-down", cause: detail });
    for (const listener of this.#listeners) listener(isUp);
  }
}

function withoutScheme(server: string): string {
  return server.slice(server.indexOf("://") < 0 ? 0 : server.indexOf("://") + 3);
}
