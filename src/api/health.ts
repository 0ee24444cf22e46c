/** The path under which load balancers ask. Source: spec section 6, "health". */
export const HEALTH_PATH = "/api/health";

/**
 * Answers whether this node should get new clients: 200 when ready, 503 when not. No token is asked for.
 *
 * Shape: GET and HEAD; another method is 405 with `Allow`. The body is empty.
 */
export function answerHealth(method: string, ready: boolean): Response {
  if (method !== "GET" && method !== "HEAD")
    return new Response(null, { status: 405, headers: { Allow: "GET, HEAD" } });
  return new Response(null, { status: ready ? 200 : 503 });
}
