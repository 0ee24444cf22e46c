import { formatRefusal, type Refusal } from "../protocol/error-codes.ts";
import type { HeaderLines } from "../protocol/headers.ts";

/** Turns a refusal into its JSON answer. Bun sets `Content-Length`. */
export function refusalResponse(refused: Refusal): Response {
  return new Response(formatRefusal(refused), {
    status: refused.status,
    headers: { "Content-Type": "application/json", ...refused.headers },
  });
}

/**
 * Turns an upstream's 4xx answer into the client's. `headers` are already those that may be passed on.
 *
 * Shape:  repeated lines stay separate for Set-Cookie and are joined by `, ` otherwise, as RFC 9110 section 5.3 allows.
 */
export function relayedResponse(status: number, headers: HeaderLines, body: Uint8Array): Response {
  const lines = headers.map(([name, value]): [string, string] => [name, latin1OfUtf8(value)]);
  if (body.length > 0 && !headers.some(([name]) => name.toLowerCase() === "content-type")) {
    // Bun gives bytes a type that the upstream did not give; to a stream it gives none.
    lines.push(["Content-Length", String(body.length)]);
    return new Response(streamOf(body), { status, headers: lines });
  }
  return new Response(body as Uint8Array<ArrayBuffer>, { status, headers: lines });
}

/** Bun sends a stream in chunks, whatever its length is said to be, unless all of it fits under the high-water mark. */
function streamOf(body: Uint8Array): ReadableStream {
  const source = {
    start(controller: ReadableStreamDefaultController) {
      controller.enqueue(body);
      controller.close();
    },
  };
  return new ReadableStream(source, { highWaterMark: body.length + 1 });
}

/** Header values go out as Latin-1 chars, one a byte; ours are Unicode and travel as UTF-8. */
function latin1OfUtf8(value: string): string {
  return Buffer.from(value, "utf8").toString("latin1");
}
