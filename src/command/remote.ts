import { makeRestToken } from "../auth/make-token.ts";
import type { Target } from "../protocol/envelope.ts";
import type { RemoteCommand } from "./args.ts";
import type { GatewayAccess } from "./connection-string.ts";

/** The outcome of a call: done or yes; no; or it failed, with a sentence that holds no secret. */
export type RemoteOutcome =
  | { readonly kind: "done" }
  | { readonly kind: "no" }
  | { readonly kind: "failed"; readonly sentence: string };

/** Long enough for one call, and too short to be useful if the token leaks. */
const TOKEN_TTL_SECONDS = 60;
const CALL_TIMEOUT_MS = 30_000;
const MAX_SENTENCE_LENGTH = 500;

/** Codes that mean "no" to the question whether something exists. */
const NO_CODES: readonly string[] = ["no_such_user", "no_such_group", "no_such_connection"];

const COLLECTIONS = { user: "users", group: "groups", connection: "connections" } as const;

/** One HTTP request of the API. */
interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  readonly target: Target;
  /** Follows the target's path: empty, or begins with a slash. */
  readonly rest: string;
  /** With `?`, or empty. */
  readonly query: string;
  readonly message: { readonly type: string; readonly body: string } | null;
}

/**
 * Runs a command over a gateway's REST API.
 *
 * Errors: none; every failure is an outcome with a sentence.
 * Source: PROTOCOL.md, "REST API".
 */
export async function runRemote(command: RemoteCommand, access: GatewayAccess): Promise<RemoteOutcome> {
  let response: Response;
  try {
    response = await send(callOf(command), access);
  } catch (error) {
    return { kind: "failed", sentence: `no answer from ${access.endpoint}: ${describeFailure(error)}` };
  }
  const { status } = response;
  if (status >= 200 && status < 300) return { kind: "done" };
  const { code, message } = await readError(response);
  if (command.name === "exists" && status === 404 && NO_CODES.includes(code)) return { kind: "no" };
  const said = message === "" ? "the answer does not come from hubwire" : `${code}: ${message}`;
  return { kind: "failed", sentence: printable(`${access.endpoint} answered ${status}, ${said}`) };
}

function callOf(command: RemoteCommand): Call {
  const { target } = command;
  switch (command.name) {
    case "send": {
      const type = command.binary ? "application/octet-stream" : "text/plain";
      return { method: "POST", target, rest: "/messages", query: "", message: { type, body: command.text } };
    }
    case "exists":
      return { method: "GET", target, rest: "", query: "", message: null };
    case "close": {
      const query = command.reason === null ? "" : `?reason=${encodeURIComponent(command.reason)}`;
      return { method: "DELETE", target, rest: "", query, message: null };
    }
  }
}

async function send({ method, target, rest, query, message }: Call, access: GatewayAccess): Promise<Response> {
  const path = `/ws/api/hubs/${encodeURIComponent(target.hub)}${pathOf(target)}${rest}`;
  const { endpoint, audience = endpoint, accessKey } = access;
  const token = await makeRestToken(accessKey, { audience: audience + path, ttlSeconds: TOKEN_TTL_SECONDS });
  const headers = { Authorization: `Bearer ${token}`, ...(message === null ? {} : { "Content-Type": message.type }) };
  const signal = AbortSignal.timeout(CALL_TIMEOUT_MS);
  // A redirect would carry the token elsewhere.
  const request = { method, headers, body: message?.body ?? null, redirect: "manual", signal } as const;
  // A gateway that is called by its address on this machine has the certificate of its public name; none has the root's dot.
  const { hostname } = new URL(audience);
  const serverName = hostname.replace(/\.$/, "");
  const tls = audience === endpoint && serverName === hostname ? {} : { tls: { serverName } };
  return await fetch(endpoint + path + query, { ...request, ...tls });
}

function pathOf(target: Target): string {
  return target.kind === "hub" ? "" : `/${COLLECTIONS[target.kind]}/${encodeURIComponent(target.name)}`;
}

function describeFailure(error: unknown): string {
  if (!(error instanceof Error)) return "it failed";
  if (error.name === "TimeoutError") return `nothing came within ${CALL_TIMEOUT_MS / 1000} s`;
  return "code" in error ? String(error.code) : error.name;
}

/** Code and message of an error of hubwire's; both empty where the body is something else. */
async function readError(response: Response): Promise<{ code: string; message: string }> {
  try {
    const body: unknown = await response.json();
    if (typeof body === "object" && body !== null && "code" in body && "message" in body) {
      const { code, message } = body;
      if (typeof code === "string" && typeof message === "string") return { code, message };
    }
  } catch {
    // Not JSON: another server listens there.
  }
  return { code: "", message: "" };
}

/** A text of another machine must not control the terminal. */
function printable(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, " ").slice(0, MAX_SENTENCE_LENGTH);
}
