import type { Clock } from "../core/ports/clock.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import type { AuthorizationFault, Authorizer } from "./authorization.ts";

/** A token as it was issued. */
export interface IssuedToken {
  readonly accessToken: string;
  /** From the moment it was asked for. */
  readonly lifetimeSeconds: number;
}

/** A server that issues tokens, as the cache sees it. */
export interface TokenSource {
  /** Errors: a token that is not issued is a value, whose text holds no secret. */
  fetchToken(): Promise<IssuedToken | AuthorizationFault>;
  stop(): void;
}

/** A token is renewed at this share of its life, or this long before its end, whichever is later. */
const RENEW_AT_SHARE = 0.8;
const RENEW_BEFORE_END_MS = 60_000;
/** After a failure the source is left alone for so long. */
const RETRY_AFTER_MS = 1000;
/**
 * A younger token is kept although the upstream answered 401: backends refuse clients with that status too, and each
 * refusal would otherwise cost a call to the token server.
 */
const MIN_REJECTED_AGE_MS = 10_000;
/** Texts that a header may have as a token. Source: RFC 6750, section 2.1, a little wider. */
const TOKEN = /^[\u0021-\u007e]+$/;

/**
 * Keeps a bearer token and renews it before it ends.
 *
 *   none ──obtain──> fresh ──(renewAt)──> ageing: used, renewed behind the calls' backs ──> fresh
 *     ^                └───────(its end, or a 401)───────┘
 *     └────────────────────────────┘
 *
 * Order: one renewal at a time; every call that needs it waits for the same one.
 */
export class TokenCache implements Authorizer {
  readonly #source: TokenSource;
  readonly #clock: Clock;
  readonly #onFault: (fault: string) => void;
  #headers: HeaderLines | null = null;
  #issuedAt = 0;
  #renewAt = 0;
  #endsAt = 0;
  #renewal: Promise<HeaderLines | AuthorizationFault> | null = null;
  #lastFault: AuthorizationFault | null = null;
  #retryAt = 0;

  constructor(source: TokenSource, clock: Clock, onFault: (fault: string) => void) {
    this.#source = source;
    this.#clock = clock;
    this.#onFault = onFault;
  }

  current(): HeaderLines | null {
    const now = this.#clock.now();
    if (this.#headers === null || now >= this.#endsAt) return null;
    if (now >= this.#renewAt) void this.#renew(now);
    return this.#headers;
  }

  obtain(): Promise<HeaderLines | AuthorizationFault> {
    return this.#renew(this.#clock.now());
  }

  rejected(headers: HeaderLines): void {
    if (headers === this.#headers && this.#clock.now() - this.#issuedAt >= MIN_REJECTED_AGE_MS) this.#headers = null;
  }

  stop(): void {
    this.#source.stop();
  }

  #renew(now: number): Promise<HeaderLines | AuthorizationFault> {
    if (this.#renewal !== null) return this.#renewal;
    if (this.#lastFault !== null && now < this.#retryAt) return Promise.resolve(this.#lastFault);
    this.#renewal = this.#fetch(now);
    return this.#renewal;
  }

  async #fetch(askedAt: number): Promise<HeaderLines | AuthorizationFault> {
    const token = checkToken(await this.#source.fetchToken().finally(() => this.#endRenewal()));
    if ("fault" in token) {
      this.#lastFault = token;
      this.#retryAt = this.#clock.now() + RETRY_AFTER_MS;
      this.#onFault(token.fault);
      return token;
    }
    const lifeMs = token.lifetimeSeconds * 1000;
    this.#lastFault = null;
    this.#issuedAt = askedAt;
    this.#endsAt = askedAt + lifeMs;
    this.#renewAt = askedAt + Math.max(lifeMs * RENEW_AT_SHARE, lifeMs - RENEW_BEFORE_END_MS);
    this.#headers = [["Authorization", `Bearer ${token.accessToken}`]];
    return this.#headers;
  }

  #endRenewal(): void {
    this.#renewal = null;
  }
}

function checkToken(token: IssuedToken | AuthorizationFault): IssuedToken | AuthorizationFault {
  if ("fault" in token) return token;
  if (!TOKEN.test(token.accessToken))
    return { fault: "the token server's token contains characters that a header may not hold" };
  if (!(token.lifetimeSeconds > 0)) return { fault: "the token server's token has ended already" };
  return token;
}
