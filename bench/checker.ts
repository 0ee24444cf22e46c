import { KEYS } from "../test/support/gateway.ts";
import { expectedSignature } from "../test/support/tokens.ts";

/** An HTTP date has seconds only, and a call may wait a moment. */
const MAX_DATE_AGE_MS = 3000;

/**
 * The part of the backend that looks at what it gets: nginx hands it one message in a thousand.
 *
 * Source: PROTOCOL.md, headers of every event. A gateway that leaves headers out, or sends stale ones, is no faster than one that
 * does not: its row has lost.
 */
export class Checker {
  #checked = 0;
  readonly #faults: string[] = [];
  readonly #reply: string;
  readonly #lastNumber = new Map<string, number>();
  readonly #server: Bun.Server<undefined>;

  constructor(reply: string) {
    this.#reply = reply;
    this.#server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: (request) => this.#answer(request) });
  }

  get port(): number {
    return this.#server.port ?? 0;
  }

  /** How many faults there were since this was last asked; says the first of them. */
  takeFaults(): number {
    const faults = this.#faults.splice(0);
    if (faults[0] !== undefined) console.error(`an event is wrong: ${faults[0]}`);
    return faults.length;
  }

  /** How many messages it looked at since this was last asked. */
  takeChecked(): number {
    const checked = this.#checked;
    this.#checked = 0;
    return checked;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop(true);
  }

  async #answer(request: Request): Promise<Response> {
    await request.arrayBuffer();
    // Requests of other gateways lack hubwire's headers. They are parsed too, so that both sides bear the cost of the check.
    if (new URL(request.url).pathname === "/message") this.#check(request.headers);
    return new Response(this.#reply);
  }

  #check(headers: Headers): void {
    this.#checked++;
    const id = headers.get("x-asrs-connection-id") ?? "";
    const expected = {
      "x-asrs-hub": "_default",
      "x-asrs-category": "messages",
      "x-asrs-event": "message",
      "x-asrs-user-id": `u-${id}`,
      "x-asrs-user-claims": "",
      "x-asrs-signature": expectedSignature(id, KEYS.primary, KEYS.secondary),
      "x-forwarded-for": "127.0.0.1",
    };
    for (const [name, value] of Object.entries(expected)) {
      if (headers.get(name) !== value) this.#faults.push(`${name}: ${headers.get(name)} instead of ${value}`);
    }
    const ageMs = Date.now() - Date.parse(headers.get("date") ?? "");
    if (!(Math.abs(ageMs) < MAX_DATE_AGE_MS)) this.#faults.push(`date: ${headers.get("date")}`);
    const [, number] = /^[\w-]+\.(\d+)$/.exec(headers.get("x-hubwire-event-id") ?? "") ?? [];
    const last = this.#lastNumber.get(id) ?? 0;
    if (!(Number(number) > last)) this.#faults.push(`x-hubwire-event-id: ${number} after ${last}`);
    this.#lastNumber.set(id, Number(number));
  }
}
