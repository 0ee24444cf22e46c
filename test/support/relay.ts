import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/** A connection of the client's to the server, by way of the relay. */
export interface RelayedConnection {
  /** Resolves when the client has closed its side, before or after the server. */
  readonly closed: Promise<void>;
  /** Whether the server was the first to end it. */
  endedByServer: boolean;
}

/** Hands bytes from a client to a server and back, as they are, and remembers which connections there were. */
export class Relay {
  readonly connections: RelayedConnection[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Starts one in front of a port of 127.0.0.1. */
  static async start(targetPort: number): Promise<Relay> {
    const server = createServer({ allowHalfOpen: true });
    const relay = new Relay(server);
    server.on("connection", (client) => relay.#join(client, targetPort));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return relay;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the relay does not listen");
    return address.port;
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #join(client: Socket, targetPort: number): void {
    const target = connect({ port: targetPort, host: "127.0.0.1", allowHalfOpen: true });
    const closed = Promise.withResolvers<void>();
    const connection: RelayedConnection = { closed: closed.promise, endedByServer: false };
    this.connections.push(connection);
    let clientEnded = false;
    client.on("end", () => {
      clientEnded = true;
    });
    target.on("end", () => {
      connection.endedByServer = !clientEnded;
    });
    for (const [one, other] of [
      [client, target],
      [target, client],
    ] as const) {
      this.#sockets.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        if (one === client) {
          other.destroy();
          closed.resolve();
        }
      });
    }
  }
}
