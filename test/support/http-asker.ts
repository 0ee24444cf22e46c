import { SYSTEM_TLS } from "../../src/config/tls-files.ts";
import { resolveBySystem } from "../../src/upstream/destination.ts";
import type { HttpOutcome } from "../../src/upstream/exchange.ts";
import { HttpClient } from "../../src/upstream/http-client.ts";
import { formatRequest } from "../../src/upstream/request-bytes.ts";
import { parseOrigin } from "../../src/upstream/url-template.ts";
import { within } from "./deadline.ts";
import { FakeClock } from "./fake-clock.ts";
import { RawBackend } from "./raw-backend.ts";

/** The upstream's HTTP client and a backend that answers it byte by byte as a test says. */
export class HttpAsker {
  readonly backend: RawBackend;
  readonly client: HttpClient;

  private constructor(backend: RawBackend, maxBodyBytes: number) {
    const origin = parseOrigin(backend.url);
    if (origin === null) throw new Error("the backend has no origin");
    this.backend = backend;
    this.client = new HttpClient({
      origin,
      tls: SYSTEM_TLS,
      allowed: null,
      resolve: resolveBySystem,
      maxBodyBytes: () => maxBodyBytes,
      clock: new FakeClock(),
    });
  }

  static async start(maxBodyBytes: number): Promise<HttpAsker> {
    return new HttpAsker(await RawBackend.start(), maxBodyBytes);
  }

  /** Posts an empty request that may not be repeated. */
  ask(target: string): Promise<HttpOutcome> {
    const { promise, resolve } = Promise.withResolvers<HttpOutcome>();
    const formatted = () =>
      formatRequest({ method: "POST", target, headers: [], body: new Uint8Array() }, "Host: test\r\n");
    const owner = {
      mayRepeat: false,
      isEventId: () => true,
      readsBody: () => false,
      formatRequest: formatted,
      onExchangeEnd: resolve,
    };
    this.client.send(owner, formatted());
    return within(promise, `the answer to ${target}`);
  }

  async stop(): Promise<void> {
    this.client.stop();
    await this.backend.stop();
  }
}
