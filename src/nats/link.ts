import { setTimeout as sleep } from "node:timers/promises";
import {
  type Authenticator,
  connect,
  credsAuthenticator,
  type NatsConnection,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from "@nats-io/transport-node";
import type { Renewal } from "../config/tls-files.ts";
import { greeted } from "./greeting.ts";
import { LoginFiles } from "./login-files.ts";

/** How to reach the servers; files by absolute paths. */
export interface NatsOptions {
  readonly servers: readonly string[];
  readonly user: string | null;
  readonly password: string | null;
  readonly token: string | null;
  readonly credsFile: string | null;
  readonly tls: {
    readonly caFile: string | null;
    readonly certFile: string | null;
    readonly keyFile: string | null;
  } | null;
}

/** What the operator should hear of the connection. */
export interface NatsReport {
  up(server: string): void;
  /** Called once when it is lost, and where it could not be made at first. */
  down(cause: string): void;
  /** A server refused something, and which: a subject that the account may not use, for example. So many others were left unsaid. */
  refused(cause: string, unsaidCount: number): void;
}

/** A server that has gone without a word is found out after two of these without an answer. */
const PING_INTERVAL_MS = 1500;
const MAX_PINGS_OUT = 2;

/** Between two tries to reach any of the servers, and what is added by chance so that nodes do not come back in step. */
const RECONNECT_WAIT_MS = 250;
const RECONNECT_JITTER_MS = 250;
const CONNECT_TIMEOUT_MS = 2000;

/** Refusals that come while it is up, one for each subject that the account may not use, are told of once in so long. */
const REFUSED_EVERY_MS = 10_000;

/** How long the end waits for what is under way to reach the server. */
const CLOSE_LIMIT_MS = 1000;

/**
 * The one connection to NATS that all parts of a node share; made again for ever.
 *
 * Order:  listeners hear of every change in the order in which they were added; when they hear `up`, the client has asked
 *         the server for all subscriptions again.
 * Errors: none: what cannot be reached now is tried again. Throws only where a file cannot be read.
 */
export class NatsLink {
  readonly #servers: readonly string[];
  readonly #files: LoginFiles;
  readonly #report: NatsReport;
  readonly #listeners: ((isUp: boolean) => void)[] = [];
  #connection: NatsConnection | null = null;
  #isUp = false;
  readonly #end = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** What was refused last while it was away: each try may be refused again. */
  #refusal: string | null = null;
  #mayTellRefusalAtMs = Number.NEGATIVE_INFINITY;
  #unsaidCount = 0;
  #stopping: Promise<void> | null = null;

  private constructor(options: NatsOptions, report: NatsReport) {
    this.#servers = options.servers;
    this.#files = new LoginFiles(options);
    this.#report = report;
  }

  /** Returns at once; the first connection may come much later. */
  static start(options: NatsOptions, report: NatsReport): NatsLink {
    const link = new NatsLink(options, report);
    link.#running = link.#run(options.servers, connectOptions(options, link.#files));
    return link;
  }

  /** Null until there has been one. While it is lost, what is published through it waits in memory: see `isUp`. */
  get connection(): NatsConnection | null {
    return this.#connection;
  }

  /** False as soon as a loss is noticed: at once, or after a few seconds where the server went without a word. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /** Reads the files for TLS and login again, for the next connection; this one stays. What cannot be used changes nothing. */
  renewCertificates(): Renewal[] {
    return this.#files.renew();
  }

  /** Calls back at every change from now on; at once where it is up. */
  onChange(listener: (isUp: boolean) => void): void {
    this.#listeners.push(listener);
    if (this.#isUp) listener(true);
  }

  /** What has been published goes out first. Nothing is tried any more when it resolves. May be called twice. */
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
    await Promise.race([connection?.close().catch(() => null), limit]);
    await Promise.race([this.#running.catch(() => null), limit]);
  }

  async #run(servers: readonly string[], options: Parameters<typeof connect>[0]): Promise<void> {
    let isSaid = false;
    for (;;) {
      const connection = await this.#connectFirst(servers, { options, isSaid });
      if (connection === null) return;
      if (this.#end.signal.aborted) {
        await connection.close();
        return;
      }
      this.#connection = connection;
      this.#changed(true, connection.getServer());
      await this.#follow(connection);
      // The client has given up, which it should not: with another one it goes on.
      this.#changed(false, "the connection was closed");
      isSaid = true;
      await this.#pause();
    }
  }

  /** Tried by hand, since the client's own first try gives up where the server refuses it. Null where the end came first. */
  async #connectFirst(
    servers: readonly string[],
    { options, isSaid }: { options: Parameters<typeof connect>[0]; isSaid: boolean },
  ): Promise<NatsConnection | null> {
    const { signal } = this.#end;
    for (let isQuiet = isSaid; !signal.aborted; isQuiet = true) {
      try {
        await greeted(servers, CONNECT_TIMEOUT_MS, signal);
        return await connect(options);
      } catch (error) {
        if (!isQuiet && !signal.aborted) this.#report.down(error instanceof Error ? error.message : String(error));
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
          this.#changed(false, "the connection was lost");
          break;
        case "reconnect":
          this.#changed(true, status.server);
          break;
        case "ldm":
          void this.#leave(connection);
          break;
        case "error":
          this.#refused(status.error.message);
          break;
      }
    }
  }

  /**
   * The server is in lame-duck mode: it will end, and closes its connections one after the other within minutes. Another one is gone to
   * at once, where there is any.
   */
  async #leave(connection: NatsConnection): Promise<void> {
    const others = new Set([...this.#servers, ...(connection.info?.connect_urls ?? [])].map(withoutScheme));
    const server = connection.getServer();
    others.delete(withoutScheme(server));
    if (others.size === 0) return;
    // What was published has gone out then, and what was on its way has come.
    await connection.flush().catch(() => {});
    if (this.#isUp && connection.getServer() === server && !this.#end.signal.aborted) await connection.reconnect();
  }

  #refused(cause: string): void {
    if (!this.#isUp && cause === this.#refusal) return;
    if (!this.#isUp) this.#refusal = cause;
    const now = performance.now();
    if (this.#isUp && now < this.#mayTellRefusalAtMs) {
      this.#unsaidCount++;
      return;
    }
    this.#report.refused(cause, this.#unsaidCount);
    this.#unsaidCount = 0;
    this.#mayTellRefusalAtMs = now + REFUSED_EVERY_MS;
  }

  #changed(isUp: boolean, detail: string): void {
    if (isUp === this.#isUp || this.#end.signal.aborted) return;
    this.#isUp = isUp;
    this.#refusal = null;
    if (isUp) this.#report.up(detail);
    else this.#report.down(detail);
    for (const listener of this.#listeners) listener(isUp);
  }
}

function withoutScheme(server: string): string {
  return server.slice(server.indexOf("://") < 0 ? 0 : server.indexOf("://") + 3);
}

function connectOptions(options: NatsOptions, files: LoginFiles): Parameters<typeof connect>[0] {
  const authenticator = authenticatorOf(options, files);
  return {
    servers: [...options.servers],
    name: "hubwire",
    ...(authenticator === null ? {} : { authenticator }),
    ...tlsOf(options, files),
    timeout: CONNECT_TIMEOUT_MS,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_WAIT_MS,
    reconnectJitter: RECONNECT_JITTER_MS,
    reconnectJitterTLS: RECONNECT_JITTER_MS,
    // Two refusals in a row would else be the end: an account that is being changed refuses for a while.
    ignoreAuthErrorAbort: true,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: MAX_PINGS_OUT,
    noAsyncTraces: true,
  };
}

function authenticatorOf({ user, password, token, credsFile }: NatsOptions, files: LoginFiles): Authenticator | null {
  if (credsFile !== null) return credsAuthenticator(() => files.creds);
  if (token !== null) return tokenAuthenticator(token);
  if (user !== null) return usernamePasswordAuthenticator(user, password ?? "");
  return null;
}

/**
 * The client does not look at a URL's scheme: without this option TLS is the server's choice. It reads these fields at each connection,
 * and every field of one connection in one go.
 */
function tlsOf(
  { tls, servers }: NatsOptions,
  files: LoginFiles,
): Pick<NonNullable<Parameters<typeof connect>[0]>, "tls"> {
  if (tls === null) return servers.some((server) => server.startsWith("tls://")) ? { tls: {} } : {};
  const field = (name: "ca" | "cert" | "key") => ({ enumerable: true, get: () => files.tls[name] ?? undefined });
  return { tls: Object.defineProperties({}, { ca: field("ca"), cert: field("cert"), key: field("key") }) };
}
