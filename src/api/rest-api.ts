import type { AccessKeys } from "../auth/access-keys.ts";
import { hostOf } from "../auth/audience.ts";
import type { CheckedCall, RestTokens } from "../auth/rest-token.ts";
import type { Broker } from "../core/ports/broker.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { PlainRequest } from "../core/ports/plain-request.ts";
import type { Pressure } from "../core/pressure.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { Report } from "../protocol/notices.ts";
import { parseRestPath, type RestPath } from "../protocol/rest-path.ts";
import { answer } from "./answer.ts";
import { type BodyResult, EarlyBodies, readBody } from "./body.ts";
import { type CallNames, readNames } from "./call.ts";
import { parseMessageType, readMessage } from "./message.ts";
import { Operations, type Rules } from "./operations.ts";
import { isSend, type Operation, routePath } from "./routes.ts";

export interface RestApiOptions {
  /** Hosts that a token may name; null where none is configured and the request's `Host` counts. */
  readonly publicHosts: readonly string[] | null;
  readonly accessKeys: () => AccessKeys;
  readonly maxMessageBytes: number;
}

/**
 * The REST API by which the backend talks to its clients.
 *
 * Order:  path 404, method 405, token 401, names and query 400, type 415, size 413, buffers full 503, stalled body 408; then
 *         the operation.
 * Errors: every refusal is `{"code","message","target"}`; a HEAD has the status alone.
 * Source: PROTOCOL.md, "REST API".
 */
export class RestApi {
  readonly #options: RestApiOptions;
  readonly #tokens: RestTokens;
  readonly #operations: Operations;
  readonly #pressure: Pressure;
  readonly #clock: Clock;
  readonly #earlyBodies = new EarlyBodies();
  readonly #hasRoom = () => this.#pressure.shortage() === null;
  #lastHost: { readonly line: string; readonly hosts: readonly string[] } = { line: "", hosts: [] };

  constructor(
    options: RestApiOptions,
    parts: { broker: Broker; rules: Rules; tokens: RestTokens; pressure: Pressure; clock: Clock; report: Report },
  ) {
    this.#options = options;
    this.#tokens = parts.tokens;
    this.#operations = new Operations(parts.broker, parts.rules, parts.report);
    this.#pressure = parts.pressure;
    this.#clock = parts.clock;
  }

  /** Null for a path outside the API. */
  handle(call: PlainRequest): Promise<Response> | null {
    const path = parseRestPath(call.path, call.query);
    return path === null ? null : this.#handle(call, path);
  }

  async #handle(call: PlainRequest, path: RestPath): Promise<Response> {
    const { method } = call.request;
    const routed = routePath(path, method);
    if (routed.kind === "not-found") return answer(method, refusal("not_found", "this path does not exist", "path"));
    if (routed.kind === "method") {
      const sentence = `this path takes ${routed.allow}`;
      return answer(method, refusal("method_not_allowed", sentence, "method", { Allow: routed.allow }));
    }
    const { headers } = call.request;
    const refused = this.#tokens.check(headers.get("authorization"), this.#checkedCall(headers, path));
    if (refused !== null) return answer(method, refused);
    const names = readNames(path, routed.names, call.query);
    if ("refusal" in names) return answer(method, names.refusal);
    const { operation } = routed;
    if (!isSend(operation)) return answer(method, await this.#operations.run(operation, names));
    return answer(method, await this.#send(call, operation, names));
  }

  #checkedCall(headers: Headers, path: RestPath): CheckedCall {
    const hosts = this.#options.publicHosts ?? this.#requestHosts(headers.get("host") ?? "");
    return { path, hosts, keys: this.#options.accessKeys(), nowSeconds: Date.now() / 1000 };
  }

  /** The host of a `Host` line, or none. Callers of a gateway mostly name the same one. */
  #requestHosts(hostLine: string): readonly string[] {
    if (hostLine !== this.#lastHost.line) {
      const host = hostOf(hostLine);
      this.#lastHost = { line: hostLine, hosts: host === null ? [] : [host] };
    }
    return this.#lastHost.hosts;
  }

  #noRoom(): Refusal {
    const sentence = this.#pressure.shortage() ?? "limits.maxBufferedBytes was in use";
    return refusal("buffer_limit", sentence, "maxBufferedBytes", { "Retry-After": "1" });
  }

  async #send({ request, holdOpen }: PlainRequest, operation: Operation, names: CallNames): Promise<Refusal | number> {
    const type = parseMessageType(request.headers.get("content-type"));
    if (type === null) {
      const sentence = "send text/plain or application/json in UTF-8, or application/octet-stream";
      return refusal("unsupported_type", sentence, "Content-Type");
    }
    let heldBytes = 0;
    const hold = (byteCount: number) => {
      heldBytes += byteCount;
      this.#pressure.hold(byteCount);
    };
    try {
      const { maxMessageBytes: maxBytes } = this.#options;
      const options = { maxBytes, clock: this.#clock, hasRoom: this.#hasRoom, hold, holdOpen };
      const body = await readBody(request, options, this.#earlyBodies);
      if (body.kind === "no-room") return this.#noRoom();
      if (body.kind !== "body") return bodyRefusal(body.kind, maxBytes);
      const message = readMessage(type, body.bytes);
      return "status" in message ? message : await this.#operations.send(operation, names, message);
    } finally {
      this.#pressure.hold(-heldBytes);
    }
  }
}

/** After 413 and 408 the connection is closed: the rest of the body would be taken for the next request. */
function bodyRefusal(fault: Exclude<BodyResult["kind"], "body" | "no-room">, maxBytes: number): Refusal {
  switch (fault) {
    case "too-big": {
      const sentence = `the body is over limits.maxMessageBytes (${maxBytes})`;
      return refusal("message_too_big", sentence, "maxMessageBytes", { Connection: "close" });
    }
    default:
      return refusal("body_timeout", "the body stopped arriving", "body", { Connection: "close" });
  }
}
