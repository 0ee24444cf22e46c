import { once } from "node:events";
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from "node:net";

/** A proxy between a client and nats-server that lets a test look at what the server says, drop it, or cut. */
export class NatsProxy {
  /** Asked about each piece that the server sends; false drops it. */
  passes: (text: string) => boolean = () => true;
  #isHolding = false;
  /** What the client has said since `holdClient`; null while it passes. */
  #said: { readonly server: Socket; readonly bytes: Buffer }[] | null = null;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(port: number): Promise<NatsProxy> {
    const server = createServer();
    const proxy = new NatsProxy(server);
    server.on("connection", (client) => proxy.#join(client, dial(port, "127.0.0.1")));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** Lets nothing pass, in either direction, until `release`; connections stay open. */
  hold(): void {
    this.#isHolding = true;
    for (const socket of this.#sockets) socket.pause();
  }

  release(): void {
    this.#isHolding = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** Keeps what the client says, until `releaseClient`; what the server says passes. */
  holdClient(): void {
    this.#said ??= [];
  }

  /** What is kept, as text. */
  get said(): string {
    return (this.#said ?? []).map(({ bytes }) => bytes.toString("latin1")).join("");
  }

  releaseClient(): void {
    const said = this.#said ?? [];
    this.#said = null;
    for (const { server, bytes } of said) server.write(bytes);
  }

  /** Ends all connections; the client may come again. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(client: Socket, server: Socket): void {
    client.on("data", (bytes: Buffer) => {
      if (this.#said === null) server.write(bytes);
      else this.#said.push({ server, bytes });
    });
    server.on("data", (bytes: Buffer) => {
      if (this.passes(bytes.toString("latin1"))) client.write(bytes);
    });
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(one);
      if (this.#isHolding) one.pause();
      one.on("error", () => {});
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
  }
}
