import { startTestGateway, type TestGateway } from "./gateway.ts";
import { acceptAs, acknowledge, echo, RawBackend, type RecordedRequest } from "./raw-backend.ts";
import { type ClientOptions, RawWebSocket } from "./raw-websocket.ts";

/** Settings of an upstream entry; without a `urlTemplate` it points at the stack's backend. */
export type UpstreamSettings = Readonly<Record<string, unknown>>;

export interface StackOptions {
  /** Top-level keys of hubwire.yaml other than `upstreams`. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Default: one entry that sends everything to the backend. */
  readonly upstreams?: readonly UpstreamSettings[] | ((backendUrl: string) => readonly UpstreamSettings[]);
}

/** The template that every entry without one gets. */
export const TEMPLATE_PATH = "/{hub}/api/{event}";

/** A gateway with its backend, and the clients that a test opened. */
export class Stack {
  readonly gateway: TestGateway;
  readonly backend: RawBackend;
  readonly #clients: RawWebSocket[] = [];

  private constructor(gateway: TestGateway, backend: RawBackend) {
    this.gateway = gateway;
    this.backend = backend;
  }

  static async start(options: StackOptions = {}): Promise<Stack> {
    const backend = await RawBackend.start();
    const given = options.upstreams ?? [{}];
    const entries = typeof given === "function" ? given(backend.url) : given;
    const upstreams = entries.map((entry) => ({ urlTemplate: backend.url + TEMPLATE_PATH, ...entry }));
    try {
      return new Stack(await startTestGateway({ upstreams, ...options.config }), backend);
    } catch (fault) {
      await backend.stop();
      throw fault;
    }
  }

  get port(): number {
    return this.gateway.port;
  }

  /** Opens a socket and sends the handshake; the answer is left to be read. */
  async request(options: Omit<ClientOptions, "port"> = {}): Promise<RawWebSocket> {
    return this.#keep(await RawWebSocket.request({ port: this.port, ...options }));
  }

  /** Opens a socket and sends nothing. */
  async dial(options: Omit<ClientOptions, "port"> = {}): Promise<RawWebSocket> {
    return this.#keep(await RawWebSocket.dial({ port: this.port, ...options }));
  }

  /** A client that has its 101. */
  async open(options: Omit<ClientOptions, "port"> = {}): Promise<RawWebSocket> {
    const client = await this.request(options);
    await client.upgraded();
    return client;
  }

  /** A client that has its 101, and the connect event that led to it. */
  async connect(
    options: Omit<ClientOptions, "port"> = {},
  ): Promise<{ client: RawWebSocket; connect: RecordedRequest; connectionId: string }> {
    const client = await this.open(options);
    const connect = await this.backend.next("connect");
    return { client, connect, connectionId: connectionIdOf(connect) };
  }

  /** Puts the well-behaved scripts back. */
  behave(): void {
    this.backend.onConnect = acceptAs("alice");
    this.backend.onMessage = echo;
    this.backend.onDisconnect = acknowledge;
  }

  /**
   * One whole life of a connection in the hub `cycle`: connect, a message and its answer, disconnect.
   *
   * What the gateway did before has reached the backend when this is over, and the gateway still serves.
   */
  async cycle(): Promise<void> {
    const inCycle = (request: RecordedRequest): boolean => /\/cycle\//.test(request.target);
    const before = this.backend.of("disconnect", inCycle).length;
    const client = await this.open({ path: "/ws/client/hubs/cycle" });
    await this.backend.next("connect", inCycle);
    client.text("still there?");
    await this.backend.next("message", inCycle);
    const answer = await client.nextText();
    if (answer !== "still there?") throw new Error(`the echo was ${JSON.stringify(answer)}`);
    client.close(1000);
    await client.closed();
    await this.backend.next("disconnect", inCycle);
    const after = this.backend.of("disconnect", inCycle).length;
    if (after !== before + 1) throw new Error("the cycle's disconnect did not come exactly once");
  }

  /** All targets but those of `cycle`, in the order of arrival: what the test itself has caused. */
  targets(): string[] {
    return this.backend.requests.map((request) => request.target).filter((target) => !target.includes("/cycle/"));
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    await this.gateway[Symbol.asyncDispose]();
    await this.backend.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #keep(client: RawWebSocket): RawWebSocket {
    this.#clients.push(client);
    return client;
  }
}

/** The id that an event names; throws where it has none. */
export function connectionIdOf(request: RecordedRequest): string {
  const id = request.header("X-ASRS-Connection-Id");
  if (id === undefined) throw new Error("no X-ASRS-Connection-Id");
  return id;
}

/** Matches the events of one connection. */
export function ofConnection(connectionId: string): (request: RecordedRequest) => boolean {
  return (request) => request.head.all("x-asrs-connection-id").includes(connectionId);
}

/** Reads a JSON error of the gateway's own and checks its form. Source: PROTOCOL.md, "Client endpoint". */
export function jsonError(body: Buffer): { code: string; message: string; target: string } {
  const value: unknown = JSON.parse(body.toString("utf8"));
  if (typeof value !== "object" || value === null) throw new Error("no JSON object");
  const { code, message, target, ...rest } = value as Record<string, unknown>;
  if (typeof code !== "string" || code === "") throw new Error("no code");
  if (typeof message !== "string" || message === "") throw new Error("no message");
  if (typeof target !== "string") throw new Error("no target");
  if (Object.keys(rest).length > 0) throw new Error(`more than an error: ${Object.keys(rest)}`);
  return { code, message, target };
}
