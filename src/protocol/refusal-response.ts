import { formatRefusal, type Refusal } from "./error-codes.ts";

/** The JSON answer to a refused request, always a new one. Bun sets `Content-Length`. */
export function refusalResponse(refused: Refusal): Response {
  return new Response(formatRefusal(refused), {
    status: refused.status,
    headers: { "Content-Type": "application/json", ...refused.headers },
  });
}
