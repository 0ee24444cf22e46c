import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { ByteStream } from "./byte-stream.ts";
import { within } from "./deadline.ts";
import { HttpHead } from "./http-head.ts";

/** Answers one request; the body is read already. */
export type PreforkAnswer = (target: string) => string | Promise<string>;

/** An answer that names a user, as connect needs it, and says nothing about keeping the connection. */
export const ACCEPT = "HTTP/1.1 200 OK\r\nX-ASRS-User-Id: alice\r\nContent-Length: 0\r\n\r\n";

/**
 * A backend that behaves as prefork servers do (Starman, Apache with mpm_prefork, uWSGI): each worker serves one connection at
 * a time, and a kept connection holds its worker until the caller closes it.
 */
export class PreforkBackend {
  /** The targets of all requests, in the order in which workers read them. */
  readonly targets: string[] = [];
  /** How many TCP connections have come. */
  connectionCount = 0;
  answer: PreforkAnswer = () => ACCEPT;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #backlog: Socket[] = [];
  #waiters: { readonly count: number; readonly resolve: () => void }[] = [];
  #freeWorkers: number;

  private constructor(workers: number) {
    this.#freeWorkers = workers;
    // A paused socket is a connection in the kernel's backlog: established, and read by nobody.
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => this.#take(socket));
  }

  static async start({ workers }: { workers: number }): Promise<PreforkBackend> {
    const backend = new PreforkBackend(workers);
    backend.#server.listen(0, "127.0.0.1");
    await once(backend.#server, "listening");
    return backend;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the backend does not listen");
    return `http://127.0.0.1:${address.port}`;
  }

  /** Resolves once so many connections wait for a worker. */
  waiting(count: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiters.push({ count, resolve });
    this.#wake();
    return within(promise, `${count} connections in the backlog; there are ${this.#backlog.length}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #take(socket: Socket): void {
    this.connectionCount++;
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    this.#backlog.push(socket);
    this.#assign();
    this.#wake();
  }

  #wake(): void {
    for (const { count, resolve } of this.#waiters) if (this.#backlog.length >= count) resolve();
    this.#waiters = this.#waiters.filter(({ count }) => this.#backlog.length < count);
  }

  #assign(): void {
    if (this.#freeWorkers === 0) return;
    const socket = this.#backlog.shift();
    if (socket === undefined) return;
    this.#freeWorkers--;
    void this.#work(socket).finally(() => {
      socket.destroy();
      this.#freeWorkers++;
      this.#assign();
    });
  }

  /** One worker's whole time with one connection. */
  async #work(socket: Socket): Promise<void> {
    socket.resume();
    const stream = new ByteStream(socket);
    for (;;) {
      const head = await stream.takeThrough("\r\n\r\n", "a request's head", 2 ** 31 - 1).catch(() => null);
      if (head === null) return;
      const request = new HttpHead(head);
      await stream.take(Number(request.all("content-length")[0] ?? "0"), "a request's body", 2 ** 31 - 1);
      const target = request.firstLine.split(" ")[1] ?? "";
      this.targets.push(target);
      socket.write(await this.answer(target));
      if (request.all("connection")[0] === "close") return;
    }
  }
}
