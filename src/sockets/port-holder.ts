/** A listener that accepts connections at a port and can be told to stop accepting: Bun's server, or its bare listener. */
export interface Acceptor {
  /** Closes the listening socket, and lets open connections be. A promise, where there is one, resolves when they have ended. */
  stop(closeOpenOnes?: boolean): unknown;
}

/** How a port is handed over. */
export interface Handover {
  /** Whether the kernel gives every new connection to the new one already. */
  readonly isSteered: boolean;
  /** How long the old one goes on: it accepts the connections in its queue, and tells its callers to close theirs. */
  readonly lingerMs: number;
}

/**
 * The server that accepts at a port, and those before it that still have connections.
 *
 *     accepting ──handOver──▶ lingering ──lingerMs──▶ closed to newcomers ──its last connection ends──▶ forgotten
 *                                └──── at once where new connections are not steered, or at the next handover ────┘
 *
 * Why: a server of Bun keeps the certificate that it was opened with.
 */
export class PortHolder<Server extends Acceptor> {
  #current: Server;
  readonly #earlier = new Set<Server>();
  #lingering: { readonly server: Server; readonly timer: Timer } | null = null;

  constructor(first: Server) {
    this.#current = first;
  }

  get current(): Server {
    return this.#current;
  }

  /** Those before it that may still have connections, oldest first. Empty nearly always. */
  get earlier(): ReadonlySet<Server> {
    return this.#earlier;
  }

  /** Goes through all that may have connections. */
  applyToAll(act: (server: Server) => void): void {
    for (const server of this.#earlier) act(server);
    act(this.#current);
  }

  /** To be called before another server is opened at the port: no more than two accept at a time. */
  endLinger(): void {
    if (this.#lingering === null) return;
    const { server, timer } = this.#lingering;
    clearTimeout(timer);
    this.#lingering = null;
    this.#close(server);
  }

  handOver(next: Server, { isSteered, lingerMs }: Handover): void {
    const before = this.#current;
    this.#current = next;
    this.#earlier.add(before);
    if (!isSteered) {
      this.#close(before);
      return;
    }
    const timer = setTimeout(() => this.endLinger(), lingerMs);
    timer.unref();
    this.#lingering = { server: before, timer };
  }

  /** Open connections stay. */
  stopAccepting(): void {
    this.endLinger();
    this.#close(this.#current);
  }

  /** Cuts what is still open. May be called twice. */
  async stop(): Promise<void> {
    this.endLinger();
    await Promise.all([...this.#earlier, this.#current].map((server) => server.stop(true)));
  }

  #close(server: Server): void {
    const forget = () => void this.#earlier.delete(server);
    void Promise.resolve(server.stop()).then(forget, forget);
  }
}
