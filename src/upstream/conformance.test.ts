import { expect } from "bun:test";
import { type Certificates, makeCertificates } from "../../test/support/certificates.ts";
import { within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import {
  CHUNKED_BYTES,
  type HttpServer,
  LARGE_BODY,
  startBunServer,
  startNginx,
  startNodeServer,
} from "../../test/support/http-servers.ts";
import { isInstalled, needs } from "../../test/support/programs.ts";
import { Relay } from "../../test/support/relay.ts";
import {
  bodyOf,
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { resolveBySystem } from "./destination.ts";
import type { HttpOutcome } from "./exchange.ts";
import { HttpClient } from "./http-client.ts";
import { formatRequest, type HttpRequest } from "./request-bytes.ts";
import { parseOrigin } from "./url-template.ts";

const { afterAll, beforeAll, describe, test } = needs("openssl");

const SCHEMES = ["http", "https"] as const;
type Scheme = (typeof SCHEMES)[number];

/** What a server does that not all can be made to do. */
type Extra = "until-close" | "interim" | "continue" | "trailers" | "echo" | "small";

interface Kind {
  readonly name: string;
  readonly start: (certificate: Certificates["server"]) => Promise<HttpServer>;
  readonly isThere: boolean;
  readonly extras: readonly Extra[];
}

const KINDS: readonly Kind[] = [
  { name: "nginx", start: startNginx, isThere: isInstalled("nginx"), extras: ["until-close", "continue", "small"] },
  {
    name: "Node",
    start: startNodeServer,
    isThere: true,
    extras: ["until-close", "interim", "continue", "trailers", "echo"],
  },
  { name: "Bun", start: startBunServer, isThere: true, extras: ["continue", "echo"] },
];

const CHUNKED_BODY = LARGE_BODY.subarray(0, CHUNKED_BYTES);

let certificates: Certificates;
const servers = new Map<Kind, HttpServer>();

beforeAll(async () => {
  certificates = makeCertificates();
  for (const kind of KINDS) if (kind.isThere) servers.set(kind, await kind.start(certificates.server));
});

afterAll(async () => {
  for (const server of servers.values()) await server.stop();
  certificates.remove();
});

/** A client of one server, and the relay between the two. */
class Rig implements AsyncDisposable {
  readonly relay: Relay;
  /** Never moves, so that nothing but the server ends a socket. */
  readonly clock = new FakeClock();
  readonly url: string;
  readonly #client: HttpClient;

  private constructor(relay: Relay, scheme: Scheme) {
    this.relay = relay;
    this.url = `${scheme}://127.0.0.1:${relay.port}`;
    const origin = parseOrigin(this.url);
    if (origin === null) throw new Error(`${this.url} has no origin`);
    this.#client = new HttpClient({
      origin,
      tls: { ca: certificates.authority.cert, cert: null, key: null },
      allowed: null,
      resolve: resolveBySystem,
      maxBodyBytes: () => LARGE_BODY.length,
      clock: this.clock,
    });
  }

  static async start(kind: Kind, scheme: Scheme): Promise<Rig> {
    const server = servers.get(kind);
    if (server === undefined) throw new Error(`${kind.name} was not started`);
    return new Rig(await Relay.start(scheme === "http" ? server.port : server.tlsPort), scheme);
  }

  ask(target: string, over: Partial<HttpRequest> = {}): Promise<HttpOutcome> {
    const { promise, resolve } = Promise.withResolvers<HttpOutcome>();
    const request = { method: "POST", target, headers: [], body: new Uint8Array(), ...over } as const;
    const bytes = () => formatRequest(request, "Host: test\r\n");
    this.#client.send(
      { mayRepeat: false, isEventId: () => true, readsBody: () => true, formatRequest: bytes, onExchangeEnd: resolve },
      bytes(),
    );
    return within(promise, `the answer to ${target}`);
  }

  async expectAnswer(
    target: string,
    status: number,
    body: string | Uint8Array,
    over: Partial<HttpRequest> = {},
  ): Promise<void> {
    const outcome = await this.ask(target, over);
    expect(outcome).toMatchObject({ kind: "answer", status });
    expect(bodyOf(outcome).equals(Buffer.from(body))).toBe(true);
  }

  /** Waits until the client has closed every connection that there was. */
  async closed(): Promise<void> {
    await within(Promise.all(this.relay.connections.map(({ closed }) => closed)), "the client to close its side");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.stop();
    await this.relay.stop();
  }
}

for (const kind of KINDS) {
  for (const scheme of SCHEMES) {
    describe(`${kind.name}, ${scheme}`, () => conforms(kind, scheme));
  }
}

test("a server may close its idle connections: the client notices, and no request is lost", async () => {
  const closes = async (kind: Kind, scheme: Scheme): Promise<void> => {
    await using rig = await Rig.start(kind, scheme);
    const askOne = () => rig.expectAnswer("/counted", 200, "counted");
    await Promise.all([askOne(), askOne()]);
    await rig.closed();
    // Over TLS the server's close_notify comes first, and the client may close before the server's FIN is here.
    if (scheme === "http") {
      expect(rig.relay.connections.map(({ endedByServer }) => endedByServer)).toEqual([true, true]);
    }
    await askOne();
    expect(rig.relay.connections).toHaveLength(3);
  };
  // All together, since each takes its seconds.
  await Promise.all([...servers.keys()].flatMap((kind) => SCHEMES.map((scheme) => closes(kind, scheme))));
});

/** What the client must do with every kind of server. */
function conforms(kind: Kind, scheme: Scheme): void {
  const { extras } = kind;
  const { afterEach, beforeEach, test } = kind.name === "nginx" ? needs("nginx", "openssl") : needs("openssl");
  let rig: Rig;

  beforeEach(async () => {
    rig = await Rig.start(kind, scheme);
  });

  afterEach(() => rig[Symbol.asyncDispose]());

  /** A test of what not every server can do. */
  const testWith = (extra: Extra) => (name: string, run: () => Promise<void>) => {
    if (extras.includes(extra)) test(name, run);
  };

  test("is asked by POST and GET over one socket, with every kind of answer", async () => {
    for (const method of ["POST", "GET"] as const) {
      await rig.expectAnswer("/counted", 200, "counted", { method });
      await rig.expectAnswer("/204", 204, "", { method });
      await rig.expectAnswer("/chunked", 200, CHUNKED_BODY, { method });
      await rig.expectAnswer("/304", 304, "", { method });
      await rig.expectAnswer("/large", 200, LARGE_BODY, { method });
    }
    await rig.expectAnswer("/counted", 200, "counted");
    expect(rig.relay.connections).toHaveLength(1);
  });

  test("has its Transfer-Encoding and Content-Length told as it wrote them", async () => {
    const linesOf = async (target: string): Promise<HeaderLines> => {
      const outcome = await rig.ask(target);
      return outcome.kind === "answer" ? outcome.headers : [];
    };
    expect(await linesOf("/chunked")).toContainEqual(["Transfer-Encoding", "chunked"]);
    expect(await linesOf("/counted")).toContainEqual(["Content-Length", "7"]);
  });

  test("gets no second request over a connection for which it says Connection: close", async () => {
    await rig.expectAnswer("/close", 200, "last");
    await rig.closed();
    await rig.expectAnswer("/counted", 200, "counted");
    expect(rig.relay.connections).toHaveLength(2);
  });

  test("gets no request over a connection a second before the end that Keep-Alive: timeout=3 names", async () => {
    await rig.expectAnswer("/counted", 200, "counted");
    rig.clock.advanceSync(1999);
    await rig.expectAnswer("/counted", 200, "counted");
    rig.clock.advanceSync(2000);
    await rig.expectAnswer("/counted", 200, "counted");
    expect(rig.relay.connections).toHaveLength(2);
  });

  test("takes a large body, and its socket is used again", async () => {
    await rig.expectAnswer("/taken", 200, "counted", { body: LARGE_BODY });
    await rig.expectAnswer("/counted", 200, "counted");
    expect(rig.relay.connections).toHaveLength(1);
  });

  test("answers many at once, each its own", async () => {
    const targets = ["/counted", "/chunked", "/large", "/204"];
    const outcomes = await Promise.all(Array.from({ length: 40 }, (_, index) => rig.ask(targets[index % 4] ?? "")));
    const lengths = outcomes.map((outcome) => bodyOf(outcome).length);
    expect(lengths).toEqual(Array.from({ length: 10 }, () => [7, CHUNKED_BYTES, LARGE_BODY.length, 0]).flat());
    expect(rig.relay.connections).toHaveLength(40);
  });

  testWith("until-close")("may end an answer by closing the connection", async () => {
    await rig.expectAnswer("/until-close", 200, "until close");
    await rig.expectAnswer("/counted", 200, "counted");
    expect(rig.relay.connections).toHaveLength(2);
  });

  testWith("interim")("may send 100, 102 and 103 before its answer", async () => {
    await rig.expectAnswer("/interim", 200, "after all");
    await rig.expectAnswer("/counted", 200, "counted");
    expect(rig.relay.connections).toHaveLength(1);
  });

  testWith("continue")("may be asked for 100 Continue", async () => {
    const headers = [["Expect", "100-continue"]] as const;
    await rig.expectAnswer("/taken", 200, "counted", { headers, body: new Uint8Array(100_000) });
    await rig.expectAnswer("/counted", 200, "counted");
    expect(rig.relay.connections).toHaveLength(1);
  });

  testWith("trailers")("may send trailers", async () => {
    await rig.expectAnswer("/trailers", 200, "with trailers");
    await rig.expectAnswer("/counted", 200, "counted");
    expect(rig.relay.connections).toHaveLength(1);
  });

  testWith("echo")("gets a body byte for byte", async () => {
    await rig.expectAnswer("/echo", 200, LARGE_BODY, { body: LARGE_BODY });
  });

  testWith("small")("may refuse a body that is too large while it comes", async () => {
    expect(await rig.ask("/small", { body: LARGE_BODY })).toMatchObject({ kind: "answer", status: 413 });
    await rig.expectAnswer("/counted", 200, "counted");
  });

  test("understands all events", async () => {
    const { certFile: caFile } = certificates.authority;
    const entry = upstreamEntry(`${rig.url}/event`, {
      tls: { caFile, certFile: null, keyFile: null },
    });
    await using upstream = startUpstream([entry]);
    const names = [];
    for (const event of [connectEvent(), messageEvent(), disconnectEvent()]) {
      names.push(bodyOf(await upstream.call(event)).toString());
    }
    expect(names).toEqual(["handshake", "message", "disconnect"]);
    expect(rig.relay.connections).toHaveLength(1);
  });
}
