import type { AllowedHosts } from "../config/allowed-hosts.ts";
import { SYSTEM_TLS } from "../config/tls-files.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { NO_BYTES } from "./byte-gatherer.ts";
import type { ResolveHost } from "./destination.ts";
import type { ExchangeOwner, HttpOutcome } from "./exchange.ts";
import type { FileReserve } from "./file-reserve.ts";
import { HttpClient } from "./http-client.ts";
import { formatOpening, formatRequest } from "./request-bytes.ts";
import { parseOrigin } from "./url-template.ts";

/** How long a token server may take; calls wait for it in addition to their own `timeoutMs`. */
const TOKEN_TIMEOUT_MS = 10_000;
const MAX_TOKEN_ANSWER_BYTES = 262_144;

/** The request to a token server. */
export interface TokenRequest {
  readonly method: "POST" | "GET";
  readonly headers: HeaderLines;
  readonly body?: Uint8Array;
}

/** The endpoint's answer with any status, or the reason why no answer came. */
export type TokenAnswer = Extract<HttpOutcome, { kind: "answer" }> | { readonly kind: "fault"; readonly fault: string };

export interface TokenEndpointOptions {
  readonly clock: Clock;
  readonly userAgent: string;
  /** Addresses that the URL's host may have; null for all. */
  readonly allowed: AllowedHosts | null;
  readonly resolve: ResolveHost;
  /** Files for its sockets. Left out: none are kept. */
  readonly files?: FileReserve;
}

/**
 * A server that issues tokens, at one URL.
 *
 * hubwire's own client calls it and not `fetch`, which would send the credentials to the proxy that `HTTP_PROXY` names.
 */
export class TokenEndpoint {
  readonly #client: HttpClient;
  readonly #clock: Clock;
  readonly #opening: string;
  readonly #target: string;

  /** Errors: throws where `url` is not an http or https URL, or has a host that may not be called. */
  constructor(url: string, options: TokenEndpointOptions) {
    const origin = parseOrigin(url);
    if (origin === null) throw new Error("auth.tokenUrl must be an http or https URL");
    const fault = options.allowed?.hostFault(origin.hostname) ?? null;
    if (fault !== null) throw new Error(`auth.tokenUrl: ${fault}`);
    const { pathname, search } = new URL(url);
    this.#clock = options.clock;
    this.#target = pathname + search;
    this.#opening = formatOpening(origin.host, options.userAgent);
    const { allowed, resolve, clock, files } = options;
    const kept = files === undefined ? {} : { files };
    const maxBodyBytes = () => MAX_TOKEN_ANSWER_BYTES;
    this.#client = new HttpClient({ origin, tls: SYSTEM_TLS, maxBodyBytes, allowed, resolve, clock, ...kept });
  }

  request(request: TokenRequest): Promise<TokenAnswer> {
    const whole = { target: this.#target, body: NO_BYTES, ...request };
    const formatted = () => formatRequest(whole, this.#opening);
    return new Promise((resolve) => {
      const owner: ExchangeOwner = {
        // Asking twice for a token does no harm.
        mayRepeat: true,
        // No event is told to a token server, so no header of its answer names one.
        isEventId: () => true,
        readsBody: () => true,
        formatRequest: formatted,
        onExchangeEnd: (outcome) => {
          cancel();
          resolve(
            outcome.kind === "answer" ? outcome : { kind: "fault", fault: `the token server: ${outcome.detail}` },
          );
        },
      };
      const cancel = this.#clock.after(TOKEN_TIMEOUT_MS, () => {
        exchange.cut();
        resolve({ kind: "fault", fault: "the token server did not answer in time" });
      });
      const exchange = this.#client.send(owner, formatted());
    });
  }

  stop(): void {
    this.#client.stop();
  }
}
