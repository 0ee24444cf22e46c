import type { Refusal } from "../protocol/error-codes.ts";
import { refusalResponse } from "../protocol/refusal-response.ts";

/**
 * A status without a body, or a refusal in JSON.
 *
 * Always a new one: Bun sends a response without a body again and again, until a client leaves before it is sent. From then
 * on the response counts as used, and each further call that got it would be answered with 500.
 */
export function answer(method: string, outcome: Refusal | number): Response {
  if (typeof outcome === "number") return new Response(null, { status: outcome });
  if (method === "HEAD") return new Response(null, { status: outcome.status, headers: outcome.headers });
  return refusalResponse(outcome);
}
