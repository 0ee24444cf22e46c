import { RawWebSocket } from "../../support/raw-websocket.ts";
import type { Dice } from "../support/dice.ts";

/** How long a client waits for anything. A gateway that is killed cuts it much sooner. */
const PATIENCE_MS = 5000;

/** How long it waits before it comes back to a gateway that is not there. */
const COMING_BACK_MS = 20;

/** What a crowd needs to know while gateways come and go. */
export interface CrowdParts {
  readonly size: number;
  readonly dice: Dice;
  /** Where the gateway of the moment listens. */
  readonly port: () => number;
}

/** Clients that connect, chat and leave in every way, again and again, even while the gateway is down. */
export class Crowd {
  readonly #parts: CrowdParts;
  readonly #lives: Promise<void>[];
  #isOver = false;
  /** How often somebody was let in. */
  openedCount = 0;

  constructor(parts: CrowdParts) {
    this.#parts = parts;
    this.#lives = Array.from({ length: parts.size }, (_, number) => this.#live(number));
  }

  /** Everybody leaves and nobody comes back. */
  async disperse(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#lives);
  }

  async #live(number: number): Promise<void> {
    const { port } = this.#parts;
    for (let visit = 0; !this.#isOver; visit++) {
      try {
        // Names as no index may mix up: a hub in another case than the upstream sees, a query to be kept.
        const path = `/ws/client/hubs/Crash_${number % 3}?visit=${number}.${visit}&q=%C3%A4`;
        using client = await RawWebSocket.dial({ port: port() });
        client.write(client.handshake({ port: port(), path }));
        await client.upgraded(PATIENCE_MS);
        this.openedCount++;
        await this.#chat(client);
      } catch {
        // Refused, cut, or nobody there: that is what the test is about.
        await Bun.sleep(COMING_BACK_MS);
      }
    }
  }

  async #chat(client: RawWebSocket): Promise<void> {
    const { dice } = this.#parts;
    const messageCount = dice.below(4);
    for (let sent = 0; sent < messageCount; sent++) {
      client.text(`message ${sent}`);
      await client.nextText(PATIENCE_MS);
    }
    const way = dice.below(4);
    if (way === 0) client.close(4001, "done");
    else if (way === 1) client.text("the last word, whose answer is not waited for");
    else if (way === 2) await Bun.sleep(dice.below(300));
    if (way === 3) client.reset();
  }
}
