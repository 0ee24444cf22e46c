import type { AccessKeys } from "../auth/access-keys.ts";
import type { AllowedHosts } from "../config/allowed-hosts.ts";
import type { UpstreamAuth, UpstreamEntry } from "../config/schema.ts";
import type { TlsFiles } from "../config/tls-files.ts";
import type { Meters } from "../core/meters.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { EntryView, MessageFailurePolicy } from "../core/ports/upstream.ts";
import type { Dialect, Dialects } from "../protocol/dialect.ts";
import type { Report } from "../protocol/notices.ts";
import type { Authorizer } from "./authorization.ts";
import { Breaker, type BreakerResult } from "./breaker.ts";
import type { ClientBlocks } from "./client-blocks.ts";
import type { Deadlines } from "./deadlines.ts";
import type { ResolveHost } from "./destination.ts";
import type { FileReserve } from "./file-reserve.ts";
import { HttpClient } from "./http-client.ts";
import { HttpDate } from "./http-date.ts";
import { LateAnswers } from "./late-answers.ts";
import { Limiter, placesPerAddress } from "./limiter.ts";
import { MessageStarts } from "./message-starts.ts";
import { formatOpening } from "./request-bytes.ts";
import { type EventPatterns, normalisePatterns } from "./routing.ts";
import type { SilentSockets } from "./silent-sockets.ts";
import { parseUrlTemplate, type UrlTemplate } from "./url-template.ts";

/** What all entries share. */
export interface EntryContext {
  readonly keys: () => AccessKeys;
  readonly dialects: Dialects;
  /** How a hub's name is written in URL and headers, by the configuration in force. */
  readonly spellHub: (hub: string) => string;
  /** The addresses that count as a connection's client. */
  readonly clientBlocks: ClientBlocks;
  /** Asked for each answer, since it may change. */
  readonly maxResponseBytes: () => number;
  /** Finds the addresses of a host's name. */
  readonly resolve: ResolveHost;
  readonly userAgent: string;
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  /** Files for sockets to upstreams. */
  readonly files: FileReserve;
  readonly report: Report;
  readonly meters: Meters;
  /** Told of bytes of answers as they begin to wait for the rest; negative when they are let go. Left out: nobody is. */
  readonly hold?: (byteCount: number) => void;
  /** Whether so many bytes more of answers may wait in the process. */
  readonly fits?: (byteCount: number) => boolean;
}

/** What one entry is built with. */
export interface EntryParts {
  /** The files that `settings.tls` names, as they were read. */
  readonly tls: TlsFiles;
  /** Hosts and addresses that may be called. */
  readonly allowed: AllowedHosts;
  readonly authorizer: Authorizer;
  /** Shared by all entries with the same origin. */
  readonly silentSockets: SilentSockets;
}

/** One entry of `upstreams` at work: its places, its breaker, its sockets and its token. */
export class Entry implements EntryView {
  readonly settings: UpstreamEntry;
  readonly tls: TlsFiles;
  readonly context: EntryContext;
  /** Its position in `upstreams`, which a reload may change. */
  position: number;
  /** Calls that have come and not ended; `Entries` counts them. */
  callCount = 0;
  readonly dialect: Dialect;
  readonly patterns: EventPatterns;
  readonly template: UrlTemplate;
  readonly limiter: Limiter;
  readonly breaker: Breaker;
  readonly authorizer: Authorizer;
  readonly client: HttpClient;
  readonly lateAnswers: LateAnswers;
  /** The header lines that every request begins with. */
  readonly opening: string;
  /** The same without `User-Agent`, for a connect event that repeats the client's. */
  readonly openingWithoutAgent: string;
  /** Headers of a 2xx to connect that the client gets. Lower case. */
  readonly passedNames: readonly string[];
  readonly messageStarts: MessageStarts;
  readonly date = new HttpDate();

  /** Errors: throws if the entry names a host that may not be called, in words for the author of the configuration. */
  constructor(settings: UpstreamEntry, position: number, parts: EntryParts, context: EntryContext) {
    const { tls, allowed, authorizer, silentSockets } = parts;
    this.settings = settings;
    this.tls = tls;
    this.context = context;
    this.position = position;
    this.dialect = context.dialects[settings.dialect];
    this.patterns = normalisePatterns(settings, this.dialect.events);
    this.template = parseUrlTemplate(settings.urlTemplate);
    this.limiter = new Limiter({ places: settings.maxConcurrency, placesPerAddress: placesPerAddress(settings) });
    this.breaker = new Breaker(settings.breaker);
    this.authorizer = authorizer;
    const { origin } = this.template;
    const fault = allowed.hostFault(origin.hostname);
    if (fault !== null) throw new Error(`urlTemplate: ${fault}`);
    const { keepAliveMs, maxConcurrency } = settings;
    const maxIdleSockets = settings.maxIdleSockets ?? maxConcurrency;
    const isLast = keepAliveMs === 0 || maxIdleSockets === 0;
    this.openingWithoutAgent = formatOpening(origin.host, null, { isLast });
    this.opening = sendsOwnAgent(settings.auth)
      ? this.openingWithoutAgent
      : formatOpening(origin.host, context.userAgent, { isLast });
    this.passedNames = settings.passResponseHeaders.map((name) => name.toLowerCase());
    const { template, opening, dialect } = this;
    this.messageStarts = new MessageStarts({ template, opening, dialect, spellHub: context.spellHub });
    this.lateAnswers = new LateAnswers({
      deadlines: context.deadlines,
      maxWaiting: maxConcurrency,
      entry: this.label,
      report: context.report,
    });
    const { clock, resolve, files, maxResponseBytes: maxBodyBytes } = context;
    const { hold, fits } = context;
    const held = { ...(hold === undefined ? {} : { hold }), ...(fits === undefined ? {} : { fits }) };
    const kept = { keepAliveMs, maxIdleSockets, silentSockets };
    this.client = new HttpClient({ origin, tls, allowed, resolve, maxBodyBytes, clock, files, ...kept, ...held });
  }

  get label(): string {
    return `upstreams[${this.position}] ${this.template.label}`;
  }

  get maxConcurrency(): number {
    return this.settings.maxConcurrency;
  }

  get onMessageFailure(): MessageFailurePolicy {
    return this.settings.onMessageFailure;
  }

  get isBreakerOpen(): boolean {
    return this.breaker.isOpen;
  }

  /** Tells the breaker how a call went, and the log what that changed. */
  settleBreaker(result: BreakerResult, call: { readonly isProbe: boolean; readonly nowMs: number }): void {
    const wasOpen = this.breaker.isOpen;
    this.breaker.settle(result, call);
    if (this.breaker.isOpen === wasOpen) return;
    this.context.report({ kind: wasOpen ? "breaker-closed" : "breaker-opened", entry: this.label });
  }

  stop(): void {
    this.authorizer.stop();
    this.client.stop();
  }
}

/** Whether the entry's static headers have a `User-Agent`, which then takes the place of hubwire's. */
function sendsOwnAgent(auth: UpstreamAuth): boolean {
  return auth.type === "headers" && Object.keys(auth.headers).some((name) => name.toLowerCase() === "user-agent");
}
