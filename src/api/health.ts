import { refusal } from "../protocol/error-codes.ts";
import { answer } from "./answer.ts";

/** The path under which load balancers ask. Source: PROTOCOL.md, "Client endpoint". */
export const HEALTH_PATH = "/api/health";

/** Whether a path is the health's; a trailing slash is the same path. */
export function isHealthPath(path: string): boolean {
  return path === HEALTH_PATH || path === `${HEALTH_PATH}/`;
}

/**
 * Answers whether this node should get new clients: 200 when ready, 503 when not. No token is asked for.
 *
 * Shape: GET and HEAD; another method is 405 with `Allow`. The body is empty but for the error's.
 */
export function answerHealth(method: string, ready: boolean): Response {
  if (method !== "GET" && method !== "HEAD") {
    return answer(method, refusal("method_not_allowed", "this path takes GET, HEAD", "method", { Allow: "GET, HEAD" }));
  }
  return new Response(null, { status: ready ? 200 : 503 });
}
