import type { Server } from "bun";
import type { AccessKeys } from "../auth/access-keys.ts";
import { hostOf } from "../auth/audience.ts";
import { type ClientIdentity, verifyClientToken } from "../auth/client-token.ts";
import type { HubConfig } from "../config/schema.ts";
import type { Admission, Admitted } from "../core/admission.ts";
import type { WaitingClient } from "../core/ports/upstream.ts";
import { type ClientEndpoint, findClientEndpoint } from "../protocol/client-endpoint.ts";
import type { ClientPaths } from "../protocol/client-paths.ts";
import { formatClientQuery, queryTokens } from "../protocol/client-query.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { encodeHeaderValue } from "../protocol/headers.ts";
import type { RefusedClient, Report } from "../protocol/notices.ts";
import { ownCopy } from "../protocol/own-copy.ts";
import { refusalResponse } from "../protocol/refusal-response.ts";
import { type Origin, type TrustedProxies, traceOrigin } from "./addresses.ts";
import { handshakeHeaders, relayedResponse } from "./answers.ts";
import { BunSocket } from "./bun-socket.ts";
import { checkHandshake } from "./handshake.ts";
import type { RelayedAnswers } from "./relayed-answers.ts";

/** The peer at the other end of a request's TCP connection. */
export interface Peer {
  readonly address: string;
  /** SHA-1, 40 upper-case hex digits; null without a certificate. */
  readonly certThumbprint: string | null;
}

export interface UpgradeOptions {
  readonly hubConfig: (hub: string) => HubConfig;
  /** The paths of clients that the configuration adds to those of the client endpoint. */
  readonly clientPaths: ClientPaths;
  /** Whether the listener takes offers of permessage-deflate; for a hub without compression they are left out. */
  readonly compression: boolean;
  /** Hosts that a token may name; null where none is configured and the request's `Host` counts. */
  readonly publicHosts: readonly string[] | null;
  readonly accessKeys: () => AccessKeys;
  readonly trustedProxies: TrustedProxies;
  /** The header in which a trusted proxy gives the client certificate's thumbprint. */
  readonly clientCertHeader: string | null;
  readonly newConnectionId: () => string;
}

/** A request for the client endpoint whose URL has been read. */
export interface ClientRequest {
  readonly request: Request;
  readonly peer: Peer;
  /** The port of the other end of its TCP connection. */
  readonly port: number;
  readonly hub: string;
  /** The path where it is one of `clientPaths`, else null. */
  readonly clientPath: string | null;
  /** Raw, without `?`. */
  readonly query: string;
}

/** What the checks of a request find out, or the refusal of the first that failed. */
type Checked<Value> = { readonly value: Value } | { readonly refusal: Refusal };

/**
 * Takes a WebSocket handshake from its URL to 101 or a refusal.
 *
 * Order:  upgrade 426 → `Origin` 403 → limits 503, 429 → token 401 → upstream. Source: PROTOCOL.md, "Client endpoint".
 */
export class Upgrade {
  readonly #options: UpgradeOptions;
  readonly #admission: Admission;
  readonly #relayed: RelayedAnswers;
  readonly #report: Report;

  constructor(
    options: UpgradeOptions,
    { admission, relayed, report }: { admission: Admission; relayed: RelayedAnswers; report: Report },
  ) {
    this.#options = options;
    this.#admission = admission;
    this.#relayed = relayed;
    this.#report = report;
  }

  /** Whether a URL is one for clients, and of which hub. */
  findEndpoint(path: string, query: string): ClientEndpoint {
    return findClientEndpoint(path, query, this.#options.clientPaths);
  }

  /** Undefined where the request has become a WebSocket. */
  async handle(client: ClientRequest, server: Server<BunSocket>): Promise<Response | undefined> {
    const { headers, method } = client.request;
    const origin = this.#trace(client.request, client.peer.address);
    const refused =
      checkHandshake(method, headers) ?? this.#checkOrigin(client) ?? this.#admission.reserve(origin.clientBlock);
    if (refused !== null) return this.#refuse(client.hub, origin, refused);
    try {
      return await this.#admit(client, origin, server);
    } finally {
      this.#admission.release(origin.clientBlock);
    }
  }

  /** Refuses a request that is not a handshake of a client. Where no hub is known, none is named. */
  refuse(request: Request, peerAddress: string, refused: Refusal): Response {
    return this.#refuse("", this.#trace(request, peerAddress), refused);
  }

  #trace({ headers }: Request, peerAddress: string): Origin {
    return traceOrigin(peerAddress, headers.get("x-forwarded-for"), this.#options.trustedProxies);
  }

  async #admit(client: ClientRequest, origin: Origin, server: Server<BunSocket>): Promise<Response | undefined> {
    const { request, hub, clientPath, query } = client;
    const identified = this.#identify(client);
    if ("refusal" in identified) return this.#refuse(hub, origin, identified.refusal);
    const certificate = this.#certThumbprint(client);
    if ("refusal" in certificate) return this.#refuse(hub, origin, certificate.refusal);

    const facts = {
      connectionId: this.#options.newConnectionId(),
      hub,
      ...identified.value,
      clientQuery: formatClientQuery(query),
      forwardedFor: origin.forwardedFor,
    };
    const admitted = await this.#admission.connect({
      facts: clientPath === null ? facts : { ...facts, rare: { clientPath: ownCopy(clientPath) } },
      client: new ClientOfRequest(request),
      subprotocols: request.headers.get("sec-websocket-protocol"),
      certThumbprint: certificate.value,
      headers: request.headers,
      checkAgain: () => this.#checkOrigin(client),
    });
    if (admitted.kind === "left") return this.#clientLeft(hub, origin);
    if (admitted.kind === "refuse") return this.#refuse(hub, origin, admitted.refusal);
    if (admitted.kind === "relay") return this.#relay(client, { origin, answer: admitted }, server);

    const { connection, payload } = admitted;
    const chosen = encodeHeaderValue(admitted.subprotocol ?? "");
    this.#hideOffer(client);
    let upgraded = false;
    try {
      upgraded = server.upgrade(request, {
        data: new BunSocket(connection, payload, client.port),
        headers: handshakeHeaders(chosen, admitted.headers),
      });
    } finally {
      if (!upgraded) this.#admission.handshakeFailed(connection);
    }
    return upgraded ? undefined : this.#clientLeft(hub, origin);
  }

  /** Bun takes up any offer in the request, for all hubs alike. */
  #hideOffer({ request, hub }: ClientRequest): void {
    if (!this.#options.compression || this.#options.hubConfig(hub).compression) return;
    request.headers.delete("sec-websocket-extensions");
  }

  #checkOrigin({ request, hub }: ClientRequest): Refusal | null {
    const origin = request.headers.get("origin");
    const { allowedOrigins } = this.#options.hubConfig(hub);
    if (origin === null || allowedOrigins.includes("*") || allowedOrigins.includes(origin.toLowerCase())) return null;
    return refusal("origin_denied", "this origin is not in the hub's allowedOrigins", "Origin");
  }

  #identify({ request, hub, clientPath, query }: ClientRequest): Checked<ClientIdentity> {
    const bearers = bearerTokens(request.headers);
    // A token is for hubwire only: the connect event may pass on this header, and must not find it.
    if (bearers.length > 0) request.headers.delete("authorization");
    const tokens = [...queryTokens(query), ...bearers];
    const [token] = tokens;
    if (token === undefined) {
      if (this.#options.hubConfig(hub).anonymous === "allow") return { value: { userId: null, claims: "" } };
      return {
        refusal: refusal("token_required", "this hub does not admit anonymous clients: send a token", "access_token"),
      };
    }
    if (tokens.length > 1) {
      return {
        refusal: refusal("token_repeated", "the request has more than one access token: send one", "access_token"),
      };
    }
    const requestHost = hostOf(request.headers.get("host") ?? "");
    const hosts = this.#options.publicHosts ?? (requestHost === null ? [] : [requestHost]);
    const result = verifyClientToken(token, { hosts, hub, clientPath }, this.#options.accessKeys(), Date.now() / 1000);
    return result.kind === "refused" ? { refusal: result.refusal } : { value: result.identity };
  }

  #certThumbprint({ request, peer }: ClientRequest): Checked<string | null> {
    const { clientCertHeader, trustedProxies } = this.#options;
    const given = clientCertHeader === null ? null : request.headers.get(clientCertHeader);
    if (given === null || given.trim() === "" || !trustedProxies.includes(peer.address)) {
      return { value: peer.certThumbprint };
    }
    const thumbprint = given.replaceAll(":", "").trim().toUpperCase();
    if (/^[0-9A-F]{40}$/.test(thumbprint)) return { value: thumbprint };
    const sentence = "the proxy's certificate header holds no SHA-1 thumbprint of 40 hex digits";
    return { refusal: refusal("bad_certificate_header", sentence, clientCertHeader ?? "") };
  }

  /** Passes an upstream's refusal on; without its body where that did not come whole, or too much waits already. */
  #relay(
    { request, hub }: ClientRequest,
    { origin, answer }: { readonly origin: Origin; readonly answer: Extract<Admitted, { kind: "relay" }> },
    server: Server<BunSocket>,
  ): Response {
    const { status, headers, body } = answer;
    const bodyFault =
      body === null || this.#relayed.fits(body.length) ? answer.bodyFault : "limits.maxBufferedBytes is in use";
    if (body === null || bodyFault !== null) {
      const message = `the upstream refused; the body of its answer is left out: ${bodyFault}`;
      this.#reportRefused(hub, { status, code: "relayed_without_body", message }, origin);
      return relayedResponse(status, headers, null);
    }
    this.#reportRefused(hub, { status, code: "relayed", message: "the upstream refused" }, origin);
    this.#relayed.add(request, body.length, server);
    return relayedResponse(status, headers, body);
  }

  #refuse(hub: string, origin: Origin, refused: Refusal): Response {
    this.#reportRefused(hub, refused, origin);
    return refusalResponse(refused);
  }

  #reportRefused(
    hub: string,
    { status, code, message }: Pick<RefusedClient, "status" | "code" | "message">,
    { clientAddress, isChainIgnored }: Origin,
  ): void {
    this.#report({ kind: "connection-refused", hub, status, code, message, clientAddress, isChainIgnored });
  }

  /** The client has gone, so no answer is read. */
  #clientLeft(hub: string, { clientAddress }: Origin): Response {
    this.#report({ kind: "client-left", hub, clientAddress });
    return new Response(null, { status: 400 });
  }
}

/**
 * The client behind a request, for those that ask now and then whether it is still there. A listener on the signal would do the
 * same, but costs each connection 250 bytes for as long as it is open.
 */
class ClientOfRequest implements WaitingClient {
  readonly #request: Request;

  constructor(request: Request) {
    this.#request = request;
  }

  get hasLeft(): boolean {
    return this.#request.signal.aborted;
  }
}

/** The tokens in all lines of `Authorization`; another scheme than Bearer is for a proxy. */
function bearerTokens(headers: Headers): string[] {
  const tokens: string[] = [];
  let isBearer = false;
  for (const part of (headers.get("authorization") ?? "").split(",")) {
    const [scheme = "", credentials = ""] = part.trim().split(/[ \t]+(.*)/s);
    // Without a scheme of its own a part continues the text before the comma.
    const isNext = credentials !== "" || /^bearer$/i.test(scheme);
    if (isNext) {
      isBearer = /^bearer$/i.test(scheme);
      if (isBearer) tokens.push(credentials);
    } else if (isBearer) {
      tokens.push(`${tokens.pop()},${scheme}`);
    }
  }
  return tokens;
}
