import type { AccessKeys } from "../auth/access-keys.ts";
import type { UpstreamEntry } from "../config/schema.ts";
import type { Clock, UpstreamLane } from "../core/ports.ts";
import type { Authorizer } from "./authorization.ts";
import { Breaker, type Verdict } from "./breaker.ts";
import type { Deadlines } from "./deadlines.ts";
import { HttpClient } from "./http-client.ts";
import { Limiter } from "./limiter.ts";
import { formatOpening } from "./request-bytes.ts";
import { type EventPatterns, normalisePatterns } from "./routing.ts";
import { readTlsFiles } from "./tls-files.ts";
import { parseUrlTemplate, type UrlTemplate } from "./url-template.ts";

/** What happens to an upstream entry that is worth a log line. `entry` names it without any secret. */
export interface UpstreamReport {
  /** From here on its connect and message events are refused, but for one probe a second. */
  breakerOpened(entry: string): void;
  breakerClosed(entry: string): void;
  /** The token that proves who calls could not be had or renewed. */
  tokenFailed(entry: string, detail: string): void;
}

/** What all entries share. */
export interface BackendContext {
  readonly keys: () => AccessKeys;
  readonly maxResponseBytes: number;
  readonly userAgent: string;
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  readonly report: UpstreamReport;
  /** Told of bytes of answers as they begin to wait for the rest; negative when they are let go. Left out: nobody is. */
  readonly hold?: (byteCount: number) => void;
}

/** One entry of `upstreams` at work: its places, its breaker, its sockets and its token. */
export class Backend implements UpstreamLane {
  readonly entry: UpstreamEntry;
  readonly context: BackendContext;
  readonly label: string;
  readonly patterns: EventPatterns;
  readonly template: UrlTemplate;
  readonly limiter: Limiter;
  readonly breaker: Breaker;
  readonly authorizer: Authorizer;
  readonly client: HttpClient;
  /** The header lines that every request begins with. */
  readonly opening: string;

  /** Errors: throws where a TLS file cannot be used, in words for whoever wrote the configuration. */
  constructor(entry: UpstreamEntry, label: string, authorizer: Authorizer, context: BackendContext) {
    const { clock, maxResponseBytes: maxBodyBytes } = context;
    this.entry = entry;
    this.context = context;
    this.label = label;
    this.patterns = normalisePatterns(entry);
    this.template = parseUrlTemplate(entry.urlTemplate);
    this.limiter = new Limiter(entry.maxConcurrency);
    this.breaker = new Breaker(entry.breaker);
    this.authorizer = authorizer;
    this.opening = formatOpening(this.template.origin.host, context.userAgent);
    const { origin } = this.template;
    const held = context.hold === undefined ? {} : { hold: context.hold };
    this.client = new HttpClient({ origin, tls: readTlsFiles(entry.tls), maxBodyBytes, clock, ...held });
  }

  get maxConcurrency(): number {
    return this.entry.maxConcurrency;
  }

  get isBreakerOpen(): boolean {
    return this.breaker.isOpen;
  }

  /** Tells the breaker how a call went, and the log what that changed. */
  settleBreaker(verdict: Verdict, isProbe: boolean): void {
    const wasOpen = this.breaker.isOpen;
    this.breaker.settle(verdict, { isProbe, nowMs: this.context.clock.now() });
    if (this.breaker.isOpen === wasOpen) return;
    if (wasOpen) this.context.report.breakerClosed(this.label);
    else this.context.report.breakerOpened(this.label);
  }

  stop(): void {
    this.authorizer.stop();
    this.client.stop();
  }
}
