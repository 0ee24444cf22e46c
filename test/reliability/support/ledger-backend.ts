import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { disconnectEventId } from "../../../src/protocol/events.ts";
import { DEADLINE_MS, within } from "../../support/deadline.ts";

/** An event as it was posted, read only as far as an account needs it. */
export interface Call {
  readonly event: "connect" | "message" | "disconnect";
  readonly connectionId: string;
  readonly body: Buffer;
  /** A header's value, by its lower-case name; empty where it is absent. */
  readonly header: (name: string) => string;
}

/** Bytes to answer with, and what then becomes of the TCP connection. `accepted`: a connect that got its 2xx. */
export interface Reply {
  readonly pieces: readonly (string | Uint8Array)[];
  readonly ending: "keep" | "end" | "reset";
  readonly accepted: boolean;
}

/** What is known of one connection. */
export interface Account {
  /** As the last connect or disconnect wrote it. */
  hub: string;
  userId: string;
  /** Its disconnect is owed. */
  accepted: boolean;
  /** Without the second ones, which follow an answer to connect that came after its time-out. Source: decision 0038. */
  disconnects: number;
  closeCode: string;
  closeReason: string;
}

/** An orderly answer; strings are UTF-8. A connect that gets it with a 2xx is accepted. */
export function orderly(status: number, lines: readonly string[] = [], body: string | Uint8Array = ""): Reply {
  const bytes = Buffer.from(body);
  const head = [`HTTP/1.1 ${status} Told`, ...lines, `Content-Length: ${bytes.length}`, "", ""].join("\r\n");
  return {
    pieces: [Buffer.concat([Buffer.from(head, "utf8"), bytes])],
    ending: "keep",
    accepted: status >= 200 && status < 300,
  };
}

/**
 * The account of every connection: who was accepted, and whose disconnect has come. Several backends may write one, and
 * it outlives them.
 */
export class Ledger {
  readonly accounts = new Map<string, Account>();
  #owed = 0;
  #wake: (() => void) | null = null;

  /** Accepted connections whose disconnect has not come. */
  get owed(): number {
    return this.#owed;
  }

  /** Disconnects beyond the first of each accepted connection. */
  get duplicates(): number {
    let count = 0;
    for (const { accepted, disconnects } of this.accounts.values()) {
      if (accepted) count += Math.max(0, disconnects - 1);
    }
    return count;
  }

  get acceptedCount(): number {
    let count = 0;
    for (const { accepted } of this.accounts.values()) if (accepted) count++;
    return count;
  }

  /** Writes down what an event says, before it is answered. */
  enter({ event, connectionId, header }: Call): void {
    if (event === "message") return;
    let account = this.accounts.get(connectionId);
    if (account === undefined) {
      const hub = header("x-asrs-hub");
      account = { hub, userId: "", accepted: false, disconnects: 0, closeCode: "", closeReason: "" };
      this.accounts.set(connectionId, account);
    }
    if (event === "connect") return;
    if (header("x-hubwire-event-id") === disconnectEventId(connectionId, true)) return;
    account.hub = header("x-asrs-hub");
    account.userId = header("x-asrs-user-id");
    account.closeCode = header("x-hubwire-close-code");
    account.closeReason = header("x-hubwire-close-reason");
    account.disconnects++;
    if (account.accepted && account.disconnects === 1) this.#owed--;
    this.#wake?.();
  }

  /** From now on the connection's disconnect is owed. */
  markAccepted(connectionId: string): void {
    const account = this.accounts.get(connectionId);
    if (account === undefined) throw new Error(`nobody asked about connection ${connectionId}`);
    if (account.accepted) return;
    account.accepted = true;
    if (account.disconnects === 0) this.#owed++;
  }

  /** Waits until every accepted connection has its disconnect. */
  async settled(deadlineMs = DEADLINE_MS): Promise<void> {
    const fault = (): string => `${this.#owed} of ${this.acceptedCount} are missing`;
    await this.until(() => this.#owed === 0, "the disconnects owed", { deadlineMs, fault });
  }

  /** Waits until a condition holds; it is looked at after each disconnect. `fault` says more where it never does. */
  async until(
    condition: () => boolean,
    what: string,
    { deadlineMs = DEADLINE_MS, fault = () => "" }: { deadlineMs?: number; fault?: () => string } = {},
  ): Promise<void> {
    const holds = async (): Promise<void> => {
      while (!condition()) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    };
    await within(holds(), what, deadlineMs).catch((late: Error) => {
      throw new Error(`${late.message}: ${fault()}`);
    });
  }
}

export interface LedgerBackendOptions {
  /** Says what each call is answered with; may be replaced at any time. */
  readonly respond: (call: Call) => Reply | Promise<Reply>;
  /** Default: one of its own. */
  readonly ledger?: Ledger;
  /** Default: a free one. */
  readonly port?: number;
  /** Default: 127.0.0.1. */
  readonly host?: string;
}

/**
 * A backend that writes a ledger and answers as it is told.
 *
 * Order: a connect is in the ledger as accepted before its answer goes out. Cost: nothing is kept of messages.
 */
export class LedgerBackend {
  readonly ledger: Ledger;
  respond: (call: Call) => Reply | Promise<Reply>;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor({ respond, ledger = new Ledger() }: LedgerBackendOptions) {
    this.respond = respond;
    this.ledger = ledger;
    this.#server = createServer({ noDelay: true }, (socket) => this.#serve(socket));
  }

  static async start(options: LedgerBackendOptions): Promise<LedgerBackend> {
    const backend = new LedgerBackend(options);
    backend.#server.listen(options.port ?? 0, options.host ?? "127.0.0.1");
    await once(backend.#server, "listening");
    return backend;
  }

  get port(): number {
    return this.#address().port;
  }

  /** The template that brings every event here. */
  get urlTemplate(): string {
    const { address, port } = this.#address();
    return `http://${address}:${port}/{event}`;
  }

  /** Stops listening and cuts every connection: to the gateway the backend is gone. */
  async stop(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #address(): AddressInfo {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the backend does not listen");
    return address;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    let buffer: Buffer = Buffer.alloc(0);
    let busy = false;
    const work = async (): Promise<void> => {
      if (busy) return;
      busy = true;
      for (;;) {
        const found = takeCall(buffer);
        if (found === null) break;
        buffer = found.rest;
        this.ledger.enter(found.call);
        const reply = await this.respond(found.call);
        if (found.call.event === "connect" && reply.accepted) this.ledger.markAccepted(found.call.connectionId);
        await writeReply(socket, reply);
      }
      busy = false;
    };
    socket.on("data", (piece: Buffer) => {
      buffer = buffer.length === 0 ? piece : Buffer.concat([buffer, piece]);
      void work();
    });
  }
}

async function writeReply(socket: Socket, { pieces, ending }: Reply): Promise<void> {
  for (const [i, piece] of pieces.entries()) {
    // Pieces are to arrive apart, as far as that can be had: each in a turn of its own.
    if (i > 0) await new Promise(setImmediate);
    socket.write(piece);
  }
  if (ending === "end") socket.end();
  else if (ending === "reset") socket.resetAndDestroy();
}

function takeCall(buffer: Buffer): { call: Call; rest: Buffer } | null {
  const end = buffer.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const [first = "", ...lines] = buffer.toString("latin1", 0, end).split("\r\n");
  const header = (name: string): string => {
    const line = lines.find((text) => text.slice(0, text.indexOf(":")).toLowerCase() === name);
    return line === undefined ? "" : line.slice(line.indexOf(":") + 1).trim();
  };
  const bodyEnd = end + 4 + Number(header("content-length"));
  if (buffer.length < bodyEnd) return null;
  const event = /\/(connect|message|disconnect)(?=[/? ])/.exec(first)?.[1];
  if (event !== "connect" && event !== "message" && event !== "disconnect") throw new Error(`no event in ${first}`);
  const body = buffer.subarray(end + 4, bodyEnd);
  return {
    call: { event, connectionId: header("x-asrs-connection-id"), body, header },
    rest: buffer.subarray(bodyEnd),
  };
}
