import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { within } from "../../support/deadline.ts";
import { closePayload, encodeFrame, OPCODE } from "../../support/frame-codec.ts";
import type { Ledger } from "../support/ledger-backend.ts";

const COUNT = 8;
const CLOSE = encodeFrame({ opcode: OPCODE.close, payload: closePayload(1000) });

/** Well-behaved clients that stay while the cases run, so that REST requests meet somebody. They read and keep nothing. */
export class Residents {
  readonly #port: number;
  readonly #ledger: Ledger;
  readonly #sockets = new Map<Socket, string>();

  constructor(port: number, ledger: Ledger) {
    this.#port = port;
    this.#ledger = ledger;
  }

  get connectionIds(): readonly string[] {
    return this.#sockets.size === 0 ? ["nobody"] : [...this.#sockets.values()];
  }

  /** Brings their number back to the full one: a case may have closed some. */
  async fill(): Promise<void> {
    while (this.#sockets.size < COUNT) await this.#open();
  }

  /** Lets all leave but so many. */
  async leave(stayCount: number): Promise<void> {
    const leaving = [...this.#sockets.keys()].slice(stayCount);
    const left = leaving.map((socket) => once(socket, "close"));
    for (const socket of leaving) socket.end(CLOSE);
    await within(Promise.all(left), "the residents to leave");
  }

  async #open(): Promise<void> {
    const known = new Set(this.#ledger.accounts.keys());
    const socket = connect({ host: "127.0.0.1", port: this.#port });
    socket.on("error", () => socket.destroy());
    socket.write(
      [
        "GET /ws/client/hubs/chat?user=ann HTTP/1.1",
        `Host: 127.0.0.1:${this.#port}`,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        "",
        "",
      ].join("\r\n"),
    );
    const [first] = (await within(once(socket, "data"), "a resident's 101")) as [Buffer];
    if (!first.toString("latin1").startsWith("HTTP/1.1 101 ")) throw new Error(`a resident got ${first}`);
    const connectionId = [...this.#ledger.accounts.keys()].find((id) => !known.has(id)) ?? "nobody";
    this.#sockets.set(socket, connectionId);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.resume();
  }
}
